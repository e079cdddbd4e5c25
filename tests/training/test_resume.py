"""A run that was killed ends as if nothing had happened, to the last bit."""

import json
import os
import random
import signal

import pytest
import torch
from transformers import LlamaForCausalLM

from ragkit.errors import ConfigError
from ragkit.models import Llama3ForCausalLM
from ragkit.training import HeldOut, NextToken
from tests.training.processes import run_alone, run_together
from tests.training.tiny import (
    EXACT_NAMES,
    assert_equal_weights,
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

VARIANTS = {
    "plain": {},
    "packed": {"packed": True},
    "transformers": {"cls": LlamaForCausalLM},
    "dropout": {"dropout": 0.3},
    "workers": {"dropout": 0.3, "dataloader_num_workers": 2},
    "tied": {"tied": True},
    "sequential": {"train_sampling_strategy": "sequential"},
    "bf16": {"bf16": True},
}


class Dying(NextToken):
    """Next-token loss whose process is killed in the middle of an update."""

    def __init__(self, calls):
        self._left = calls

    def loss(self, model, batch, *, num_items_in_batch):
        if torch.is_grad_enabled():
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(model, batch, num_items_in_batch=num_items_in_batch)


class DyingWhileSaving(Llama3ForCausalLM):
    """Kills its process when it is saved for the second time, with the weights half written."""

    saved = 0

    def save_pretrained(self, save_directory, **options):
        super().save_pretrained(save_directory, **options)
        self.saved += 1
        if self.saved == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def train_variant(out, variant, *, dies_at=None, cls=Llama3ForCausalLM):
    changes = dict(VARIANTS[variant])
    packed = changes.pop("packed", False)
    make = make_packed_rows if packed else make_rows
    model = make_model(
        changes.pop("cls", cls),
        attention_dropout=changes.pop("dropout", 0.0),
        tie_word_embeddings=changes.pop("tied", False),
    )
    return run(
        out,
        model=model,
        rows=make(),
        collator=collate_packed if packed else collate,
        objective=Dying(dies_at) if dies_at else None,
        options=make_options(eval_steps=5, **changes),
        held_out=HeldOut(make(5, seed=2), num_bytes=100),
    )


def train_and_die(out, variant, dies_at):
    train_variant(out, variant, dies_at=dies_at)


def train_and_die_while_saving(out):
    train_variant(out, "plain", cls=DyingWhileSaving)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Folders of runs that nothing happened to, by variant."""
    done = {}

    def of(variant):
        if variant not in done:
            done[variant] = tmp_path_factory.mktemp(variant)
            train_variant(done[variant], variant)
        return done[variant]

    return of


def assert_same_run(out, expected):
    assert_equal_weights(weights_of(out), weights_of(expected))
    assert_same_metrics(out, expected)


def assert_same_metrics(out, expected):
    assert lines_of(out) == lines_of(expected)
    assert [list(line) for line in lines_of(out)] == [EXACT_NAMES] * len(lines_of(out))
    assert lines_of(out, "evaluations") == lines_of(expected, "evaluations")
    steps = [line["step"] for line in lines_of(out, "timings")]
    assert steps == [line["step"] for line in lines_of(out)]


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(one, marks=() if one in ("dropout", "packed") else pytest.mark.slow)
        for one in VARIANTS
    ],
)
def test_a_killed_run_ends_with_the_weights_and_metrics_of_an_undisturbed_one(
    tmp_path, undisturbed, variant
):
    # Two backward passes an update, ten updates, checkpoints after the fourth and the eighth: the
    # ninth pass is the first that has a checkpoint behind it.
    dies_at = random.Random(variant).randint(9, 20)

    assert run_alone(train_and_die, tmp_path, variant, dies_at) == -signal.SIGKILL
    report = train_variant(tmp_path, variant)

    assert report.resumed_from == (dies_at - 1) // 2 // 4 * 4 > 0
    assert_same_run(tmp_path, undisturbed(variant))


def test_a_run_that_was_killed_while_it_saved_goes_on_from_the_checkpoint_before(
    tmp_path, undisturbed
):
    assert run_alone(train_and_die_while_saving, tmp_path) == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "checkpoints" / "unfinished").iterdir()]

    report = train_variant(tmp_path, "plain")

    assert report.resumed_from == 4
    assert_same_run(tmp_path, undisturbed("plain"))
    assert not (tmp_path / "checkpoints" / "unfinished").exists()


class Interrupting(NextToken):
    """Next-token loss that raises in the middle of an update."""

    def __init__(self, calls):
        self._left = calls

    def loss(self, model, batch, *, num_items_in_batch):
        self._left -= torch.is_grad_enabled()
        if self._left == 0:
            raise KeyboardInterrupt
        return super().loss(model, batch, num_items_in_batch=num_items_in_batch)


def interrupt(out, *, calls, **changes):
    with pytest.raises(KeyboardInterrupt):
        run(out, objective=Interrupting(calls), **changes)


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    run(tmp_path / "whole")
    interrupt(tmp_path / "cut", calls=19)
    damaged = tmp_path / "cut" / "checkpoints" / "checkpoint-8" / "optimizer.pt"
    damaged.write_bytes(damaged.read_bytes()[:100])

    report = run(tmp_path / "cut")

    assert report.resumed_from == 4
    assert lines_of(tmp_path / "cut") == lines_of(tmp_path / "whole")


def test_a_line_that_a_kill_tore_is_written_again(tmp_path):
    run(tmp_path / "whole")
    interrupt(tmp_path / "cut", calls=19)
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "loss_na')

    run(tmp_path / "cut")

    assert lines_of(tmp_path / "cut") == lines_of(tmp_path / "whole")


class Counted(list):
    """Rows that remember how many of them were read."""

    reads = 0

    def __getitem__(self, place):
        self.reads += 1
        return super().__getitem__(place)


def test_rows_that_were_trained_on_are_not_read_again(tmp_path):
    interrupt(tmp_path, calls=19)
    rows = Counted(make_rows())

    run(tmp_path, rows=rows)

    # One row to see how long rows are, and two updates of two batches of two.
    assert rows.reads == 1 + 2 * 4


def test_another_environment_is_told(tmp_path, caplog):
    interrupt(tmp_path, calls=9)
    path = tmp_path / "environment.json"
    former = json.loads(path.read_text())
    path.write_text(json.dumps({**former, "torch": "0.1", "num_threads": 64}))

    run(tmp_path)

    assert "the run goes on with other torch, num_threads: bits may differ" in caplog.text
    assert json.loads(path.read_text()) == former


def test_other_rows_are_refused(tmp_path):
    interrupt(tmp_path, calls=9)

    with pytest.raises(ConfigError, match="num_rows: 23 then, 22 now"):
        run(tmp_path, rows=make_rows(22))


def test_other_facts_are_refused_by_name_and_equal_ones_go_on(tmp_path):
    facts = {"corpus": {"xxh3": "5e1f"}, "tokenizer": "77a0"}
    interrupt(tmp_path, calls=9, facts=facts)

    with pytest.raises(ConfigError, match=r"corpus\.xxh3: '5e1f' then, '5e20' now"):
        run(tmp_path, facts={**facts, "corpus": {"xxh3": "5e20"}})

    assert run(tmp_path, facts=facts).resumed_from == 4


def test_a_model_of_another_size_is_refused(tmp_path):
    interrupt(tmp_path, calls=9)

    with pytest.raises(ConfigError, match="num_parameters: 10728 then,"):
        run(tmp_path, model=make_model(attention_bias=True))


def train_of_two(out):
    run(out, options=make_options(per_device_train_batch_size=1, save_steps=2))


def train_of_two_and_die(out):
    calls = 7 if os.environ["RANK"] == "1" else 100
    options = make_options(per_device_train_batch_size=1, save_steps=2)
    run(out, options=options, objective=Dying(calls))


@pytest.mark.slow
def test_two_processes_of_which_one_was_killed_go_on_to_the_last_bit(tmp_path):
    assert run_together(2, train_of_two, tmp_path / "whole") == [0, 0]
    codes = run_together(2, train_of_two_and_die, tmp_path / "cut")
    assert codes[1] == -signal.SIGKILL
    assert codes[0] != 0

    assert run_together(2, train_of_two, tmp_path / "cut") == [0, 0]

    assert_equal_weights(weights_of(tmp_path / "cut"), weights_of(tmp_path / "whole"))
    assert lines_of(tmp_path / "cut") == lines_of(tmp_path / "whole")
