import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.data import chunk_document, parse_chunker
from ragkit.data.tokens import WINDOW_CHARS, TokenChunker
from ragkit.errors import ConfigError
from ragkit.types import Document

TEXTS = st.lists(
    st.sampled_from(
        ["a", "short", "verylongwordindeed", "x.y", "\u6f22\u5b57", "e\u0301", "\r\n", "--"]
    ),
    min_size=1,
    max_size=120,
).map(" ".join)


class SplittingCounter:
    """Counts one token more for each passage that starts within a word, as subwords do."""

    max_seq_length = 64

    def token_offsets(self, text):
        return np.array([m.span() for m in re.finditer(r"\S", text)], np.int32).reshape(-1, 2)

    def count(self, text, title):
        return 3 + len(self.token_offsets(text)) + text.startswith("b")


def token_positions(counter, text, start, end):
    return [tuple(span) for span in counter.token_offsets(text) if start <= span[0] < end]


@given(text=TEXTS, size=st.integers(9, 31), title=st.sampled_from(["", "T", "a longer title " * 9]))
def test_no_passage_is_longer_than_asked_for(counter, text, size, title):
    document = Document("d", text, title=title)

    for passage in chunk_document(document, TokenChunker(size, 3), counter=counter):
        assert counter.count(passage.text, passage.title) <= size


@given(text=TEXTS, overlap=st.integers(0, 9))
def test_neighbours_share_exactly_the_overlap(counter, text, overlap):
    spans = TokenChunker(23, overlap).cut(text, counter=counter)

    for (_, end), (start, last) in pairwise(spans):
        assert len(token_positions(counter, text, start, end)) == overlap
        assert len(token_positions(counter, text, end, last)) > 0


def test_passages_start_at_words_where_they_can(counter):
    text = "alphabetic words everywhere " * 40

    starts = [start for start, _ in TokenChunker(31, 6).cut(text, counter=counter)]

    assert all(start == 0 or text[start - 1] == " " for start in starts)


def test_a_passage_that_comes_out_longer_on_its_own_is_shrunk():
    counter = SplittingCounter()
    text = "ab" * 200

    spans = TokenChunker(20).cut(text, counter=counter)

    assert "".join(text[start:end] for start, end in spans) == text
    assert max(counter.count(text[start:end], "") for start, end in spans) == 20


def test_a_long_title_leaves_half_of_the_room_to_the_text(counter):
    document = Document("d", "words " * 40, title="title " * 50)

    passages = chunk_document(document, TokenChunker(20), counter=counter)

    assert document.title.startswith(passages[0].title)
    assert counter.count("", passages[0].title) == 10
    assert counter.count("", "title " * 8) == 10


def test_a_title_that_fits_is_kept_as_it_is(counter):
    [passage] = chunk_document(Document("d", "text", title=" T "), TokenChunker(9), counter=counter)

    assert passage.title == " T "


def test_windows_change_nothing_where_words_are_apart(counter):
    text = "some words of it\n" * (WINDOW_CHARS // 8)

    spans = TokenChunker(29).cut(text, counter=counter)

    assert " ".join(text[start:end] for start, end in spans).split() == text.split()
    assert {counter.count(text[start:end], "") for start, end in spans[:-1]} <= set(range(25, 30))


def test_white_space_and_unknown_words_cannot_make_a_passage_large():
    class UnknownWords(SplittingCounter):
        def token_offsets(self, text):
            return np.array([m.span() for m in re.finditer(r"\S+", text)], np.int32).reshape(-1, 2)

    text = "a" * 250_000 + " " * 250_000 + "b"

    spans = TokenChunker(20).cut(text, counter=UnknownWords())

    assert max(end - start for start, end in spans) <= 20 * 64
    assert spans[-1] == (500_000, 500_001)


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("tokens:32", "encoder sees 31 tokens.*use at most tokens:31:0"),
        ("tokens:2", "leaves no room for text: prefix and special tokens take 2"),
        ("tokens:10:8", "leaves no room for text"),
    ],
)
def test_a_size_that_cannot_be_is_refused(counter, spec, hint):
    with pytest.raises(ConfigError, match=hint):
        chunk_document(Document("d", "text"), parse_chunker(spec), counter=counter)


def test_without_a_tokenizer_tokens_cannot_be_counted():
    with pytest.raises(ConfigError, match="cut by words:100"):
        chunk_document(Document("d", "text"), parse_chunker("tokens:20"))
