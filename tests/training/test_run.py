"""Whole runs on one process."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from ragkit.errors import ConfigError, DataError, DivergedError
from ragkit.training import HeldOut, NextToken
from tests.training.processes import run_alone
from tests.training.tiny import (
    EXACT_NAMES,
    SEQ,
    assert_equal_weights,
    collate,
    lines_of,
    make_model,
    make_rows,
    run,
    weights_of,
)


def test_a_run_leaves_its_files(tmp_path):
    model = make_model()

    report = run(tmp_path, model=model, held_out=HeldOut(make_rows(5), num_bytes=90))

    assert {path.name for path in tmp_path.iterdir()} == {
        "LOCK",
        "checkpoints",
        "environment.json",
        "evaluations.jsonl",
        "facts.yaml",
        "loss.png",
        "metrics.jsonl",
        "model",
        "recipe.yaml",
        "report.json",
        "timings.jsonl",
    }
    assert not list((tmp_path / "model").glob("*.bin"))
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "environment.json").read_text())["num_processes"] == 1
    assert (report.finished, report.steps) == (True, 10)
    assert report.num_tokens == 10 * 4 * SEQ == lines_of(tmp_path)[-1]["num_tokens"]
    assert report.eval_loss_nats == lines_of(tmp_path, "evaluations")[-1]["loss_nats"]


def test_the_saved_model_is_the_trained_one_with_its_cache_on(tmp_path):
    model = make_model()

    report = run(tmp_path, model=model)

    saved = AutoModelForCausalLM.from_pretrained(report.model)
    assert_equal_weights(saved.state_dict(), model.state_dict())
    assert saved.config.use_cache
    assert model.config.use_cache
    assert not model.training


def test_the_last_line_stands_at_the_last_step_and_each_step_once(tmp_path):
    run(tmp_path)

    assert [line["step"] for line in lines_of(tmp_path)] == [3, 6, 9, 10]
    assert all(list(line) == EXACT_NAMES for line in lines_of(tmp_path))
    assert [line["step"] for line in lines_of(tmp_path, "timings")] == [3, 6, 9, 10]
    assert all(line["flops_share"] > 0 for line in lines_of(tmp_path, "timings"))


def test_a_line_is_the_mean_over_the_targets_since_the_last_one(tmp_path):
    # Rows with very different numbers of targets, so that a mean of means would be another.
    rows = [[1] * SEQ if i % 3 else [1, 5] + [0] * (SEQ - 2) for i in range(24)]
    options = {"per_device_train_batch_size": 1, "train_sampling_strategy": "sequential"}
    for name, logging_steps in (("each", 1), ("few", 5)):
        changes = {**options, "logging_steps": logging_steps}
        run(tmp_path / name, rows=rows, options_changes=changes)
    reads = [[rows[(2 * step + i) % 24] for i in range(2)] for step in range(10)]
    targets = [int((collate(read)["labels"] != -100).sum()) for read in reads]

    found = [line["loss_nats"] for line in lines_of(tmp_path / "few")]

    steps = [line["loss_nats"] for line in lines_of(tmp_path / "each")]
    for window, loss in zip((slice(0, 5), slice(5, 10)), found, strict=True):
        nats = sum(s * t for s, t in zip(steps[window], targets[window], strict=True))
        assert loss == pytest.approx(nats / sum(targets[window]), rel=1e-12)


def test_the_first_line_is_the_loss_of_the_untrained_model(tmp_path):
    rows = make_rows(4)
    run(tmp_path, rows=rows, options_changes={"max_steps": 4, "logging_steps": 1})

    with torch.no_grad():
        expected = make_model()(**collate(rows)).loss.item()
    first = lines_of(tmp_path)[0]
    assert first["loss_nats"] == pytest.approx(expected, rel=1e-6)  # sums in another order
    assert first["learning_rate"] == 0


def test_a_repeated_batch_is_learnt_by_heart(tmp_path):
    report = run(tmp_path, rows=make_rows(4), options_changes={"max_steps": 80, "warmup_steps": 5})

    assert lines_of(tmp_path)[0]["loss_nats"] > 3
    assert report.loss_nats < 0.5


def test_equal_runs_are_equal_and_another_seed_is_another_run(tmp_path):
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        run(tmp_path / name, options_changes={"seed": seed})

    assert lines_of(tmp_path / "one") == lines_of(tmp_path / "same")
    assert_equal_weights(weights_of(tmp_path / "one"), weights_of(tmp_path / "same"))
    assert lines_of(tmp_path / "one") != lines_of(tmp_path / "other")


def test_checkpointed_activations_change_nothing(tmp_path):
    for name, on in (("kept", False), ("again", True)):
        run(tmp_path / name, options_changes={"activation_checkpointing": on})

    assert_equal_weights(weights_of(tmp_path / "kept"), weights_of(tmp_path / "again"))


def test_bf16_computes_in_half_precision_and_keeps_weights_in_float32(tmp_path):
    for name, bf16 in (("full", False), ("half", True)):
        run(tmp_path / name, options_changes={"bf16": bf16})

    assert {tensor.dtype for tensor in weights_of(tmp_path / "half").values()} == {torch.float32}
    full, half = (lines_of(tmp_path / name)[-1]["loss_nats"] for name in ("full", "half"))
    assert full != half
    assert half == pytest.approx(full, rel=1e-2)  # bfloat16 has 8 bits


def test_norms_and_biases_do_not_decay(tmp_path):
    # With a zero gradient AdamW changes a weight by its decay alone.
    class Still(NextToken):
        def loss(self, model, batch, *, num_items_in_batch):
            return 0 * super().loss(model, batch, num_items_in_batch=num_items_in_batch)

    before = make_model(attention_bias=True).state_dict()
    model = make_model(attention_bias=True)
    run(
        tmp_path,
        model=model,
        objective=Still(),
        options_changes={"lr_scheduler_type": "constant", "warmup_steps": 0, "weight_decay": 0.5},
    )

    spared = {name for name, tensor in model.state_dict().items() if tensor.equal(before[name])}
    assert spared == {name for name in before if "norm" in name or "bias" in name}
    kept = (1 - 1e-2 * 0.5) ** 10
    for name in before.keys() - spared:
        torch.testing.assert_close(model.state_dict()[name], kept * before[name])


def test_the_library_prints_nothing(tmp_path, capfd):
    run(tmp_path, held_out=HeldOut(make_rows(2)))

    assert capfd.readouterr() == ("", "")


def test_a_finished_run_is_not_touched_again(tmp_path, caplog):
    first = run(tmp_path)
    former = (tmp_path / "metrics.jsonl").stat().st_mtime_ns

    with caplog.at_level("INFO", logger="ragkit"):
        again = run(tmp_path)

    assert again == first
    assert "finished already: nothing is done" in caplog.text
    assert (tmp_path / "metrics.jsonl").stat().st_mtime_ns == former


def test_a_finished_run_can_be_overwritten(tmp_path):
    run(tmp_path)

    report = run(tmp_path, options_changes={"max_steps": 5}, overwrite=True)

    assert report.steps == lines_of(tmp_path)[-1]["step"] == 5


def test_other_options_are_refused_by_name(tmp_path):
    run(tmp_path)

    with pytest.raises(ConfigError, match=r"training\.learning_rate: 0\.01 then, 0\.02 now"):
        run(tmp_path, options_changes={"learning_rate": 0.02})


class Exploding(NextToken):
    """Next-token loss that is not a number from some batch on."""

    def __init__(self, calls, *, gradient_only):
        self._left, self._gradient_only = calls, gradient_only

    def loss(self, model, batch, *, num_items_in_batch):
        loss = super().loss(model, batch, num_items_in_batch=num_items_in_batch)
        self._left -= torch.is_grad_enabled()
        if self._left > 0:
            return loss
        if self._gradient_only:
            loss.register_hook(lambda gradient: gradient * float("inf"))
            return loss
        return loss * float("nan")


@pytest.mark.parametrize("gradient_only", [False, True])
def test_a_loss_that_is_not_finite_stops_the_run_at_the_last_good_weights(tmp_path, gradient_only):
    objective = Exploding(12, gradient_only=gradient_only)

    with pytest.raises(DivergedError, match=r"step 6 has loss .* good checkpoint is .*point-4"):
        run(tmp_path, objective=objective, options_changes={"logging_steps": 1})

    assert [line["step"] for line in lines_of(tmp_path)] == [1, 2, 3, 4, 5]
    assert not (tmp_path / "model").exists()


def test_the_first_step_has_no_checkpoint_to_go_back_to(tmp_path):
    with pytest.raises(DivergedError, match=r"step 1 has loss nan .* there is no checkpoint yet"):
        run(tmp_path, objective=Exploding(1, gradient_only=False))


def test_held_out_rows_without_any_target_are_an_error_at_once(tmp_path):
    with pytest.raises(DataError, match="the 3 held-out rows have no target"):
        run(tmp_path / "run", held_out=HeldOut([[1] + [0] * (SEQ - 1)] * 3))

    assert not (tmp_path / "run").exists()


class ExplodingLater(NextToken):
    """Next-token loss that is not a number outside of training."""

    def loss(self, model, batch, *, num_items_in_batch):
        loss = super().loss(model, batch, num_items_in_batch=num_items_in_batch)
        return loss if torch.is_grad_enabled() else loss * float("nan")


def test_a_held_out_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(
        DivergedError, match=r"after step 6 held-out rows have loss nan, .* checkpoint is .*point-4"
    ):
        run(
            tmp_path,
            objective=ExplodingLater(),
            held_out=HeldOut(make_rows(2)),
            options_changes={"eval_steps": 6},
        )

    assert lines_of(tmp_path, "evaluations") == []


def train_too(out):
    with pytest.raises(ConfigError, match=r"another process trains in .*: wait until it ends"):
        run(out)


class Crowded(NextToken):
    """Next-token loss beside which another process starts an equal run."""

    def __init__(self, out, *, calls):
        self._out, self._left = out, calls

    def loss(self, model, batch, *, num_items_in_batch):
        self._left -= torch.is_grad_enabled()
        if self._left == 0:
            assert run_alone(train_too, self._out) == 0
        return super().loss(model, batch, num_items_in_batch=num_items_in_batch)


def test_a_second_run_into_the_same_folder_is_refused_while_the_first_goes_on(tmp_path):
    run(tmp_path / "alone")

    run(tmp_path / "crowded", objective=Crowded(tmp_path / "crowded", calls=13))

    assert lines_of(tmp_path / "crowded") == lines_of(tmp_path / "alone")


def test_a_model_that_a_kill_left_half_written_goes_when_the_next_is_there(tmp_path):
    (tmp_path / ".model.5e1f5e1f5e1f5e1f5e1f5e1f5e1f5e1f.partial").mkdir()

    run(tmp_path)

    assert not list(tmp_path.glob("*.partial"))


def test_rows_without_any_target_are_an_error(tmp_path):
    with pytest.raises(DataError, match="step 1 have no target: drop rows without any"):
        run(tmp_path, rows=[[1] + [0] * (SEQ - 1)] * 3)


def test_no_rows_are_an_error(tmp_path):
    with pytest.raises(DataError, match="the dataset has no rows"):
        run(tmp_path, rows=[])


def test_weights_in_half_precision_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"load the model with dtype=torch\.float32"):
        run(tmp_path, model=make_model().bfloat16())


class Swallowing(LlamaForCausalLM):
    def forward(self, input_ids=None, labels=None, num_items_in_batch=None):
        return super().forward(input_ids=input_ids, labels=labels)


class Dropping(LlamaForCausalLM):
    def forward(self, input_ids=None, labels=None, **kwargs):
        return super().forward(input_ids=input_ids, labels=labels)


@pytest.mark.parametrize(
    ("cls", "hint"),
    [(Swallowing, r"forward has no \*\*kwargs"), (Dropping, "does not depend on it")],
)
def test_a_model_whose_loss_ignores_the_global_count_is_refused(tmp_path, cls, hint):
    with pytest.raises(ConfigError, match=hint):
        run(tmp_path, model=make_model(cls))
