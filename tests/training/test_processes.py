"""Two gloo processes on the CPU learn what one does."""

import os

import pytest
import torch

from ragkit.errors import ConfigError
from ragkit.training import HeldOut
from tests.training.processes import run_together
from tests.training.tiny import (
    collate,
    collate_packed,
    lines_of,
    make_model,
    make_options,
    make_packed_rows,
    make_rows,
    run,
    weights_of,
)

KINDS = ("packed", "plain")
NUM_STEPS, ROWS_PER_STEP = 4, 8
# Losses and gradients of 8 rows are summed in another order: a few last bits of float32, of which
# Adam's division by small second moments makes a little more.
REL = 1e-6
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def train_share(out, kind, num_processes, accumulation):
    packed = kind == "packed"
    make, collator = (make_packed_rows, collate_packed) if packed else (make_rows, collate)
    rows_at_once = ROWS_PER_STEP // num_processes // accumulation
    options = make_options(
        max_steps=NUM_STEPS,
        per_device_train_batch_size=rows_at_once,
        gradient_accumulation_steps=accumulation,
        logging_steps=1,
        save_steps=2,
        eval_steps=2,
        per_device_eval_batch_size=2,
    )
    # Three batches of held-out rows, so that one of two processes has none left.
    held_out = HeldOut(make(5, seed=2), num_bytes=100)
    run(out, rows=make(), collator=collator, options=options, held_out=held_out)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Folders of runs of one process without accumulation, by kind of rows."""
    done = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    for kind, out in done.items():
        train_share(out, kind, 1, 1)
    return done


def assert_close_runs(out, expected):
    for name in ("metrics", "evaluations"):
        for found, wanted in zip(lines_of(out, name), lines_of(expected, name), strict=True):
            assert found == pytest.approx(wanted, rel=REL)
    weights = weights_of(expected)
    for name, tensor in weights_of(out).items():
        torch.testing.assert_close(tensor, weights[name], **TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_accumulation_changes_neither_losses_nor_gradients_nor_weights(tmp_path, alone, kind):
    train_share(tmp_path, kind, 1, 4)

    assert_close_runs(tmp_path, alone[kind])


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("kind", ["packed", pytest.param("plain", marks=pytest.mark.slow)])
def test_two_processes_have_the_losses_gradients_and_weights_of_one(
    tmp_path, alone, kind, accumulation
):
    codes = run_together(2, train_share, tmp_path, kind, 2, accumulation)

    assert codes == [0, 0]
    assert_close_runs(tmp_path, alone[kind])


def train_from_unequal_weights(out):
    model = make_model(seed=int(os.environ["RANK"]))
    with pytest.raises(ConfigError, match="set the seed before the model is made"):
        run(out, model=model)


def test_processes_that_start_from_unequal_weights_are_refused(tmp_path):
    assert run_together(2, train_from_unequal_weights, tmp_path) == [0, 0]
