from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.data.words import LONGEST_WORD, WordChunker

WORDS = st.lists(st.sampled_from(["a", "word", "don't", "\u6f22\u5b57", "\U0001f600"]), max_size=90)


def cut(text, *args, **kwargs):
    return [text[start:end] for start, end in WordChunker(*args, **kwargs).cut(text)]


@given(words=WORDS, size=st.integers(1, 30), space=st.sampled_from([" ", "\r\n", "\u3000 "]))
def test_every_block_but_the_last_has_exactly_the_size(words, size, space):
    blocks = [block.split() for block in cut(space.join(words), size)]

    assert [word for block in blocks for word in block] == words
    assert all(len(block) == size for block in blocks[:-1])


@given(words=WORDS, size=st.integers(2, 30), overlap=st.integers(1, 29))
def test_neighbours_share_exactly_the_overlap(words, size, overlap):
    overlap = min(overlap, size - 1)
    words = [f"{word}{number}" for number, word in enumerate(words)]

    blocks = [block.split() for block in cut(" ".join(words), size, overlap, merge_tail=0)]

    for left, right in pairwise(blocks):
        assert left[-overlap:] == right[:overlap]
        assert right[-1] not in left
    assert len(blocks) <= 1 or len(blocks[-1]) > overlap


@pytest.mark.parametrize(
    ("num_words", "merge_tail", "sizes"),
    [
        (309, 10, [100, 100, 109]),
        (310, 10, [100, 100, 100, 10]),
        (309, 0, [100, 100, 100, 9]),
        (7, 10, [7]),
        (100, 10, [100]),
    ],
)
def test_a_short_last_block_joins_the_one_before(num_words, merge_tail, sizes):
    blocks = cut("w " * num_words, 100, merge_tail=merge_tail)

    assert [len(block.split()) for block in blocks] == sizes


def test_a_small_block_is_never_doubled_by_its_tail():
    assert [len(block.split()) for block in cut("w " * 13, 5)] == [5, 5, 3]


def test_a_run_without_spaces_is_cut_hard_and_on_its_own():
    blocks = cut("some words " + "x" * (2 * LONGEST_WORD + 5) + " and more", 100)

    assert blocks[0] == "some words"
    assert [len(block) for block in blocks[1:4]] == [LONGEST_WORD, LONGEST_WORD, 5]
    assert blocks[4] == "and more"
