import math

import pytest
import torch
from accelerate import Accelerator

from ragkit.errors import DataError
from ragkit.training import HeldOut, NextToken
from ragkit.training.held_out import evaluate, require_targets
from tests.training.tiny import SEQ, collate, make_model, make_rows


@pytest.mark.parametrize("batch_size", [1, 2, 7, 50])
def test_every_target_weighs_the_same_whatever_the_batches(batch_size):
    model, rows = make_model(), make_rows(7)

    found = evaluate(
        NextToken(),
        model,
        HeldOut(rows, num_bytes=123),
        collate=collate,
        batch_size=batch_size,
        accelerator=Accelerator(cpu=True),
    )

    with torch.no_grad():
        expected = model(**collate(rows)).loss.item()
    num_targets = (collate(rows)["labels"] != -100).sum().item()
    # Sums of float32 in another order.
    assert found.loss_nats == pytest.approx(expected, rel=1e-6)
    bits = found.loss_nats * num_targets / math.log(2)
    assert found.bits_per_byte == pytest.approx(bits / 123, rel=1e-12)


def test_without_bytes_there_are_no_bits_per_byte():
    found = evaluate(
        NextToken(),
        make_model(),
        HeldOut(make_rows(2)),
        collate=collate,
        batch_size=2,
        accelerator=Accelerator(cpu=True),
    )

    assert found.bits_per_byte is None


@pytest.mark.parametrize("rows", [[], [[1] + [0] * (SEQ - 1)] * 3])
def test_rows_without_any_target_are_refused(rows):
    with pytest.raises(DataError, match=f"the {len(rows)} held-out rows have no target: give"):
        require_targets(HeldOut(rows), objective=NextToken(), collate=collate)


def test_one_row_with_a_target_is_enough():
    rows = [[1] + [0] * (SEQ - 1), *make_rows(1)]

    require_targets(HeldOut(rows), objective=NextToken(), collate=collate)
