import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.encoders.tokenizing import TEXTS_AT_ONCE, WINDOW_CHARS, TextTokenizer
from ragkit.errors import ConfigError
from ragkit.testing import tiny_tokenizer

CLS, SEP = 2, 3


@pytest.fixture(scope="module")
def tokenizer():
    return TextTokenizer(tiny_tokenizer(), max_seq_length=11)


def rows_of(tokens):
    return [part.tolist() for part in np.split(tokens.ids, tokens.offsets[1:-1])]


def test_tokens_are_those_of_the_backend(tokenizer):
    texts = ["the wing", "", "Heat of the shock."]

    tokens = tokenizer.tokenize(texts)

    assert rows_of(tokens) == [tiny_tokenizer().encode(text).ids for text in texts]
    assert tokens.lengths.tolist() == [4, 2, 7]


def test_no_texts_have_no_tokens(tokenizer):
    tokens = tokenizer.tokenize([])

    assert len(tokens) == 0
    assert tokens.offsets.tolist() == [0]


@pytest.mark.parametrize("words", [8, 9, 10, 500, 50_000])
def test_a_cut_text_ends_with_its_special_token(tokenizer, words):
    tokens = tokenizer.tokenize(["wing " * words])

    cut = tiny_tokenizer()
    cut.enable_truncation(11)
    assert tokens.ids.tolist() == cut.encode("wing " * words).ids
    assert (tokens.lengths[0] > 11) == (words > 9)


def test_the_length_before_the_cut_is_exact_for_moderate_texts(tokenizer):
    tokens = tokenizer.tokenize(["wing " * 30, "wing"])

    assert tokens.lengths.tolist() == [32, 3]
    assert np.diff(tokens.offsets).tolist() == [11, 3]


def test_the_prefix_counts(tokenizer):
    tokens = tokenizer.tokenize(["wing"], prefix="query: ")

    assert rows_of(tokens) == [tiny_tokenizer().encode("query: wing").ids]


def test_a_text_of_whitespace_is_read_to_its_end(tokenizer):
    tokens = tokenizer.tokenize([" " * 100_000 + "wing"])

    assert rows_of(tokens) == [tiny_tokenizer().encode("wing").ids]


@pytest.mark.parametrize("text", ["wing " * 2_000_000, "a" * 2_000_000])
def test_megabytes_take_seconds(tokenizer, text):
    started = time.process_time()

    tokens = tokenizer.tokenize([text])

    assert len(tokens.ids) <= 11
    assert time.process_time() - started < 10  # a tenth of that on an idle machine


def test_lone_surrogates_become_replacement_characters(tokenizer):
    tokens = tokenizer.tokenize(["wing \ud800 flow"])

    assert rows_of(tokens) == [tiny_tokenizer().encode("wing \ufffd flow").ids]


def test_the_backend_of_the_caller_stays_as_it_is():
    backend = tiny_tokenizer()
    backend.enable_truncation(5)

    TextTokenizer(backend, max_seq_length=11)

    assert backend.truncation["max_length"] == 5


@pytest.mark.parametrize("length", [0, 1, 2])
def test_special_tokens_need_room(length):
    with pytest.raises(ConfigError, match="give at least 3"):
        TextTokenizer(tiny_tokenizer(), max_seq_length=length)


@given(text=st.text(max_size=60))
def test_offsets_point_into_the_text(text):
    tokenizer = TextTokenizer(tiny_tokenizer(), max_seq_length=11)

    offsets = tokenizer.token_offsets(text)

    starts, ends = offsets[:, 0], offsets[:, 1]
    assert ((starts >= 0) & (starts <= ends) & (ends <= len(text))).all()
    assert (np.diff(starts) >= 0).all()
    assert len(offsets) == tokenizer.tokenize([text]).lengths[0] - 2


def test_offsets_of_a_long_text_do_not_depend_on_the_window(tokenizer):
    text = ("the shock, of 17 Wings!\n\n" * 9000)[: 3 * WINDOW_CHARS]

    offsets = tokenizer.token_offsets(text)

    whole = tiny_tokenizer().encode(text, add_special_tokens=False).offsets
    np.testing.assert_array_equal(offsets, whole)


def test_lowercasing_comes_before_the_tokenizer():
    backend = tiny_tokenizer()
    backend.normalizer = None
    texts = ["WING of The flow"]

    lowered = TextTokenizer(backend, max_seq_length=11, lowercase=True).tokenize(texts)

    assert rows_of(lowered) == [backend.encode(texts[0].lower()).ids]


def test_lowering_keeps_the_offsets():
    tokenizer = TextTokenizer(tiny_tokenizer(), max_seq_length=11, lowercase=True)

    offsets = tokenizer.token_offsets("\u0130 \u0130 Wing")  # lower() makes two characters of it

    assert offsets[-1].tolist() == [4, 8]


def test_many_texts_are_tokenised_in_pieces(tokenizer):
    texts = ["wing " * (i % 17) for i in range(TEXTS_AT_ONCE + 3)]

    tokens = tokenizer.tokenize(texts)

    assert rows_of(tokens) == [tokenizer.tokenize([text]).ids.tolist() for text in texts]
