import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.encoders.hashing import HashEncoder
from ragkit.errors import ConfigError

WORDS = st.lists(st.sampled_from(["wing", "flow", "of", "heat", "!"]), min_size=1, max_size=20)


@given(words=WORDS, dim=st.integers(1, 9))
def test_a_text_with_words_has_a_unit_vector(words, dim):
    [vector] = HashEncoder(dim).encode([" ".join(words)], role="passage")

    assert np.linalg.norm(vector) == pytest.approx(1)


@given(words=WORDS, data=st.data())
def test_the_order_of_words_does_not_matter(words, data):
    shuffled = data.draw(st.permutations(words))

    first, second = HashEncoder(13).encode([" ".join(words), " ".join(shuffled)], role="query")

    np.testing.assert_array_equal(first, second)


def test_shared_words_bring_texts_together():
    texts = ["the heat of the wing", "Heat, of a wing.", "seven small questions"]

    vectors = HashEncoder(512).encode(texts, role="passage")

    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_a_text_without_words_has_no_vector(text):
    assert np.isnan(HashEncoder(7).encode([text, "wing"], role="query")).all(1).tolist() == [1, 0]


def test_long_texts_are_cut_and_counted():
    encoder = HashEncoder(11, max_seq_length=3)

    tokens = encoder.tokenize(["one two three four, five", "one"], role="passage")

    assert np.diff(tokens.offsets).tolist() == [3, 1]
    assert tokens.lengths.tolist() == [6, 1]


def test_offsets_give_back_the_words():
    text = "Heat, of a  wing."

    offsets = HashEncoder(5).token_offsets(text)

    assert [text[start:end] for start, end in offsets] == ["Heat", ",", "of", "a", "wing", "."]


def test_many_texts_are_counted_in_pieces():
    encoder, texts = HashEncoder(5), [f"word{i} word{i // 2}" for i in range(5000)]

    vectors = encoder.encode(texts, role="passage")

    np.testing.assert_array_equal(vectors[4500:], encoder.encode(texts[4500:], role="passage"))


@pytest.mark.parametrize(("dim", "length"), [(0, 5), (5, 0)])
def test_sizes_start_at_one(dim, length):
    with pytest.raises(ConfigError, match="write for example hash:256"):
        HashEncoder(dim, max_seq_length=length)
