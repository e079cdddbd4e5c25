import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.masking_utils import find_packed_sequence_indices

from ragkit.data.collators import PackedCollator
from ragkit.data.packed import PackedRow

PAD = 3
SEQ = 11


@st.composite
def packed_rows(draw):
    """A row whose ids are distinct, none of them the padding's."""
    lengths = draw(
        st.lists(st.integers(1, SEQ), min_size=1, max_size=5).filter(lambda x: sum(x) <= SEQ)
    )
    num_tokens = sum(lengths)
    return PackedRow(np.arange(100, 100 + num_tokens), np.array(lengths), SEQ - num_tokens)


BATCHES = st.lists(packed_rows(), min_size=1, max_size=4)


def expected_row(row, *, mask_documents):
    """Ids, labels and positions of one row, token by token."""
    ids, labels, positions = [], [], []
    for length in row.document_lengths:
        for position in range(length):
            is_first = position == 0 if mask_documents else not ids
            ids.append(int(row.input_ids[len(ids)]))
            labels.append(-100 if is_first else ids[-1])
            positions.append(position)
    ids += [PAD] * row.num_padding
    labels += [-100] * row.num_padding
    return ids, labels, [*positions, *range(row.num_padding)]


@given(rows=BATCHES, mask_documents=st.booleans())
def test_batch_equals_the_one_put_together_token_by_token(rows, mask_documents):
    batch = PackedCollator(pad_token_id=PAD, mask_documents=mask_documents)(rows)

    expected = [expected_row(row, mask_documents=mask_documents) for row in rows]
    assert batch["input_ids"].tolist() == [ids for ids, _, _ in expected]
    assert batch["labels"].tolist() == [labels for _, labels, _ in expected]
    if mask_documents:
        assert batch["position_ids"].tolist() == [positions for _, _, positions in expected]
    assert ("position_ids" in batch) is mask_documents
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


@given(rows=BATCHES, mask_documents=st.booleans())
def test_labels_count_what_a_loss_that_shifts_by_one_sums_up(rows, mask_documents):
    labels = PackedCollator(pad_token_id=PAD, mask_documents=mask_documents)(rows)["labels"]

    terms = torch.nn.functional.cross_entropy(
        torch.zeros(labels[:, 1:].numel(), 200), labels[:, 1:].flatten(), reduction="none"
    )

    num_documents = sum(len(row.document_lengths) for row in rows)
    num_tokens = sum(len(row.input_ids) for row in rows)
    assert (terms > 0).sum() == (labels != -100).sum()
    assert (labels != -100).sum() == num_tokens - (num_documents if mask_documents else len(rows))


@given(rows=BATCHES)
def test_transformers_tells_the_documents_apart_by_their_positions(rows):
    position_ids = PackedCollator(pad_token_id=PAD, mask_documents=True)(rows)["position_ids"]

    found = find_packed_sequence_indices(position_ids)

    expected = [
        np.repeat(
            np.arange(len(row.document_lengths) + 1), [*row.document_lengths, row.num_padding]
        )
        for row in rows
    ]
    if found is None:  # each row is one document without padding
        found = torch.zeros_like(position_ids)
    assert found.tolist() == [numbers.tolist() for numbers in expected]


@pytest.mark.parametrize(
    ("mask_documents", "labels"),
    [
        (True, [-100, 7, -100, 9, 2, -100, -100]),
        (False, [-100, 7, 8, 9, 2, -100, -100]),
    ],
)
def test_end_of_text_is_a_target_and_padding_is_none(mask_documents, labels):
    row = PackedRow(np.array([5, 7, 8, 9, 2]), np.array([2, 3]), num_padding=2)

    batch = PackedCollator(pad_token_id=2, mask_documents=mask_documents)([row])

    assert batch["labels"].tolist() == [labels]
    assert batch["input_ids"].tolist() == [[5, 7, 8, 9, 2, 2, 2]]
