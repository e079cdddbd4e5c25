import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.masking_utils import find_packed_sequence_indices

from ragkit.data.best_fit import best_fit_rows
from ragkit.data.collators import LabelledCollator
from ragkit.data.labelled import LabelledDataset, LabelledRow
from ragkit.errors import DataError

CONTEXT = 13
PAD = 3


@st.composite
def instance_lists(draw):
    """Instances that fit a row, all of whose tokens are distinct."""
    sizes = st.tuples(st.integers(0, 7), st.integers(1, 6)).filter(lambda pair: sum(pair) > 1)
    first, instances = 100, []
    for prompt, target in draw(st.lists(sizes, min_size=1, max_size=9)):
        ids = range(first, first + prompt + target)
        instances.append((tuple(ids[:prompt]), tuple(ids[prompt:])))
        first += prompt + target
    return instances


def pieces_of(row):
    """The instances of a row: ids, and which of them are targets."""
    ends = np.cumsum(row.instance_lengths)[:-1]
    ids, flags = np.split(row.input_ids, ends), np.split(row.is_target, ends)
    return [(one.tolist(), other.tolist()) for one, other in zip(ids, flags, strict=True)]


def expected_piece(prompt, target):
    flags = [False] * len(prompt) + [True] * len(target)
    return [*prompt, *target], [False, *flags[1:]]


@given(instances=instance_lists(), seed=st.none() | st.integers(0, 5))
def test_each_instance_lies_whole_in_one_row(instances, seed):
    packed = LabelledDataset.pack(instances, context_length=CONTEXT, seed=seed)

    rows = [packed[place] for place in range(len(packed))]
    found = [piece for row in rows for piece in pieces_of(row)]
    assert sorted(found) == [expected_piece(*instance) for instance in instances]
    assert all(len(row.input_ids) <= CONTEXT for row in rows)
    assert packed.num_targets == sum(row.is_target.sum() for row in rows)
    assert (packed.report.num_documents, packed.report.truncated_documents) == (len(instances), 0)


@given(instances=instance_lists())
def test_there_are_as_many_rows_as_best_fit_opens(instances):
    lengths = np.array([len(prompt) + len(target) for prompt, target in instances])

    packed = LabelledDataset.pack(instances, context_length=CONTEXT)

    assert len(packed) == best_fit_rows(lengths, context_length=CONTEXT).max() + 1


@given(instances=instance_lists())
def test_separate_rows_hold_one_instance_each_in_order(instances):
    separate = LabelledDataset.separate(instances, context_length=CONTEXT)

    found = [pieces_of(separate[place]) for place in range(len(separate))]
    assert found == [[expected_piece(*instance)] for instance in instances]


def expected_row(row, width):
    """Ids, labels and positions of one row, token by token."""
    ids, labels, positions = [], [], []
    for piece in pieces_of(row):
        for position, (token, is_target) in enumerate(zip(*piece, strict=True)):
            ids.append(token)
            labels.append(token if is_target else -100)
            positions.append(position)
    num_padding = width - len(ids)
    return [*ids, *[PAD] * num_padding], [*labels, *[-100] * num_padding], positions


@given(instances=instance_lists(), mask_documents=st.booleans())
def test_a_batch_equals_the_one_put_together_token_by_token(instances, mask_documents):
    packed = LabelledDataset.pack(instances, context_length=CONTEXT)
    rows = [packed[place] for place in range(len(packed))]
    width = max(len(row.input_ids) for row in rows)

    batch = LabelledCollator(pad_token_id=PAD, mask_documents=mask_documents)(rows)

    expected = [expected_row(row, width) for row in rows]
    assert batch["input_ids"].tolist() == [ids for ids, _, _ in expected]
    assert batch["labels"].tolist() == [labels for _, labels, _ in expected]
    assert ("position_ids" in batch) is mask_documents
    if mask_documents:
        found = zip(batch["position_ids"].tolist(), expected, strict=True)
        assert all(
            line == [*positions, *range(width - len(positions))] for line, (*_, positions) in found
        )
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_transformers_tells_instances_and_padding_apart():
    rows = [
        LabelledRow(np.arange(7), np.ones(7, bool), np.array([4, 1, 2])),
        LabelledRow(np.arange(5), np.ones(5, bool), np.array([2, 3])),
    ]

    position_ids = LabelledCollator(pad_token_id=PAD)(rows)["position_ids"]

    expected = [[0, 0, 0, 0, 1, 2, 2], [0, 0, 1, 1, 1, 2, 2]]
    assert find_packed_sequence_indices(position_ids).tolist() == expected


def test_a_seed_decides_the_order_of_rows():
    instances = [((place,), (place, place)) for place in range(40)]
    orders = [
        [
            LabelledDataset.pack(instances, context_length=3, seed=seed)[row].input_ids[0]
            for row in range(40)
        ]
        for seed in (None, 1, 1, 2)
    ]

    assert orders[0] == [*range(40)]
    assert orders[1] == orders[2]
    assert orders[1] not in (orders[0], orders[3])


def test_rows_are_counted_from_either_end_and_end():
    packed = LabelledDataset.pack([((5,), (6, 7)), ((8, 9), (4,))], context_length=4)

    assert packed[-1].input_ids.tolist() == packed[1].input_ids.tolist() == [8, 9, 4]
    with pytest.raises(IndexError, match="range"):
        packed[2]


def test_a_pickled_copy_is_equal_and_the_hash_tells_others():
    instances = [((5,), (6, 7)), ((8, 9), (4,))]
    packed = LabelledDataset.pack(instances, context_length=7)
    moved = LabelledDataset.pack([((5, 6), (7,)), instances[1]], context_length=7)

    copy = pickle.loads(pickle.dumps(packed))

    assert copy.content_hash == packed.content_hash != moved.content_hash
    np.testing.assert_array_equal(copy[0].input_ids, packed[0].input_ids)


@pytest.mark.parametrize(
    ("instances", "hint"),
    [
        ([], "give at least one"),
        ([((1, 2), (3,)), ((1, 2), ())], "instance 1 has 2 prompt and 0 target tokens"),
        ([((), (3,))], "a token before its end"),
        ([((1, 2), (3,)), ((1, 2, 3), (4, 5))], "instance 1 has 5 tokens, but a row takes 4"),
    ],
)
def test_instances_that_cannot_be_learnt_are_refused(instances, hint):
    with pytest.raises(DataError, match=hint):
        LabelledDataset.pack(instances, context_length=4)


def test_rows_come_without_torch():
    code = "import sys, ragkit.data.labelled; print('torch' in sys.modules)"

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout == "False\n"
