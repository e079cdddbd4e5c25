import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ragkit.encoders.batching import cut_lengths, pad_batch, plan_batches, take_tokens
from ragkit.testing import tokens_of

LENGTHS = st.lists(st.integers(0, 13), max_size=29)


@given(lengths=LENGTHS, budget=st.integers(1, 60))
def test_every_text_with_tokens_is_in_one_batch(lengths, budget):
    lengths = np.array(lengths, np.int64)

    batches = plan_batches(np.arange(len(lengths)), lengths, batch_tokens=budget)

    placed = sorted(row for batch in batches for row in batch.tolist())
    assert placed == np.flatnonzero(lengths).tolist()


@given(lengths=LENGTHS, budget=st.integers(1, 60))
def test_a_batch_of_several_texts_keeps_the_budget(lengths, budget):
    lengths = np.array(lengths, np.int64)

    batches = plan_batches(np.arange(len(lengths)), lengths, batch_tokens=budget)

    assert all(len(b) == 1 or len(b) * lengths[b].max() <= budget for b in batches)


def test_the_longest_texts_come_first():
    lengths = np.array([3, 7, 5, 7])

    batches = plan_batches(np.array([0, 1, 2, 3]), lengths, batch_tokens=14)

    assert [batch.tolist() for batch in batches] == [[1, 3], [2, 0]]


def test_a_batch_is_padded_on_the_right():
    ids, mask = pad_batch(tokens_of([2, 0, 3]), np.array([2, 0]), pad_id=9)

    np.testing.assert_array_equal(ids, [[200, 201, 202], [0, 1, 9]])
    np.testing.assert_array_equal(mask, [[True, True, True], [True, True, False]])


@given(lengths=LENGTHS, data=st.data())
def test_taking_texts_keeps_their_tokens(lengths, data):
    tokens = tokens_of(lengths)
    rows = np.array(data.draw(st.permutations(range(len(lengths)))), np.int64)

    taken = take_tokens(tokens, rows)

    for place, row in enumerate(rows):
        found = taken.ids[taken.offsets[place] : taken.offsets[place + 1]]
        assert found.tolist() == [100 * row + j for j in range(lengths[row])]
    assert cut_lengths(taken).tolist() == taken.lengths.tolist()
