import shutil

import pytest
import torch
from accelerate import Accelerator

from ragkit.training import HeldOut, NextToken
from ragkit.training.held_out import evaluate
from tests.training.tiny import (
    assert_equal_weights,
    collate,
    lines_of,
    make_model,
    make_options,
    make_rows,
    run,
    weights_of,
)

LAYER = "model.norm.weight"


def norm_of(sign):
    """A measure that grows or falls with the length of a weight."""

    def measure(model, batch):
        length = dict(model.named_parameters())[LAYER].detach().norm()
        return {"length": sign * length * torch.ones(len(batch["input_ids"]))}

    return measure


def held_out(sign=1):
    return HeldOut(make_rows(5, seed=7), measure=norm_of(sign), best_by="length")


@pytest.mark.parametrize("batch_size", [1, 2, 9])
def test_a_measure_is_a_mean_over_rows(batch_size):
    rows = make_rows(7)

    found = evaluate(
        NextToken(),
        make_model(),
        HeldOut(rows, measure=lambda _, batch: {"first": batch["input_ids"][:, 0]}),
        collate=collate,
        batch_size=batch_size,
        accelerator=Accelerator(cpu=True),
    )

    assert found.measures == {"first": pytest.approx(sum(row[0] for row in rows) / 7, rel=1e-12)}
    assert found.numbers() == {"loss_nats": found.loss_nats, **found.measures}


def test_the_best_model_is_the_one_of_its_evaluation(tmp_path):
    options = make_options(eval_steps=3, max_steps=10)
    kept = run(tmp_path / "best", held_out=held_out(), options=options)

    lines = lines_of(tmp_path / "best", "evaluations")
    assert [line["step"] for line in lines] == [0, 3, 6, 9, 10]
    best = max(lines, key=lambda line: line["length"])
    assert kept.selection == {name: best[name] for name in ("step", "loss_nats", "length")}
    length = weights_of(tmp_path / "best")[LAYER].norm()
    assert float(length) == pytest.approx(best["length"], rel=1e-6)  # a mean of float32


def test_an_untrained_model_is_kept_if_it_is_the_best(tmp_path):
    model = make_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}

    # Of equal models the first is kept.
    constant = HeldOut(
        make_rows(5, seed=7),
        measure=lambda _, batch: {"one": torch.ones(len(batch["input_ids"]))},
        best_by="one",
    )
    report = run(tmp_path, model=model, held_out=constant, options=make_options(eval_steps=4))

    assert report.selection["step"] == 0
    assert_equal_weights(weights_of(tmp_path), before)


def test_keeping_the_best_leaves_the_training_as_it_is(tmp_path):
    options = make_options(eval_steps=3)

    run(tmp_path / "best", held_out=held_out(), options=options)
    run(tmp_path / "last", held_out=HeldOut(make_rows(5, seed=7)), options=options)

    assert lines_of(tmp_path / "best") == lines_of(tmp_path / "last")


@pytest.mark.parametrize("sign", [1, -1])
def test_a_killed_run_keeps_the_same_model(tmp_path, sign):
    options = make_options(eval_steps=3, save_steps=4)
    whole = run(tmp_path / "whole", held_out=held_out(sign), options=options)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    (tmp_path / "cut" / "report.json").unlink()

    resumed = run(tmp_path / "cut", held_out=held_out(sign), options=options)

    assert resumed.resumed_from == 8
    assert resumed.selection == whole.selection
    assert lines_of(tmp_path / "cut", "evaluations") == lines_of(tmp_path / "whole", "evaluations")
    assert_equal_weights(weights_of(tmp_path / "cut"), weights_of(tmp_path / "whole"))
