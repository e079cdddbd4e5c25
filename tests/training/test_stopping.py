"""A signal ends a run after the update at hand, with a checkpoint."""

import os
import signal

import pytest
import torch

from ragkit.training import NextToken
from ragkit.training.stopping import SIGNALS, StopRequest
from tests.training.processes import run_alone, run_together
from tests.training.tiny import (
    assert_equal_weights,
    lines_of,
    make_options,
    run,
    weights_of,
)


class Signalling(NextToken):
    """Next-token loss that sends its process a signal in the middle of an update."""

    def __init__(self, number, *, calls):
        self._number, self._left = number, calls

    def send(self):
        signal.raise_signal(self._number)

    def loss(self, model, batch, *, num_items_in_batch):
        self._left -= torch.is_grad_enabled()
        if self._left == 0:
            self.send()
        return super().loss(model, batch, num_items_in_batch=num_items_in_batch)


def test_an_interrupted_run_saves_and_goes_on_to_the_last_bit(tmp_path):
    run(tmp_path / "whole")

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", objective=Signalling(signal.SIGINT, calls=13))
    report = run(tmp_path / "cut")

    assert report.resumed_from == 7
    assert lines_of(tmp_path / "cut") == lines_of(tmp_path / "whole")
    assert_equal_weights(weights_of(tmp_path / "cut"), weights_of(tmp_path / "whole"))


def test_a_signal_that_is_ignored_gives_a_report_of_an_unfinished_run(tmp_path):
    former = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        report = run(tmp_path, objective=Signalling(signal.SIGTERM, calls=5))
    finally:
        signal.signal(signal.SIGTERM, former)

    assert (report.finished, report.steps) == (False, 3)
    assert not (tmp_path / "report.json").exists()


class Terminal(Signalling):
    """Sends the signal to all processes of the run, as Ctrl-C in a terminal does."""

    def send(self):
        os.killpg(0, self._number)


def train_at_a_terminal(out):
    os.setpgrp()
    run(
        out,
        options=make_options(dataloader_num_workers=2),
        objective=Terminal(signal.SIGINT, calls=5),
    )


@pytest.mark.slow
def test_workers_outlive_an_interrupt_until_the_checkpoint_is_saved(tmp_path):
    assert run_alone(train_at_a_terminal, tmp_path) == 1

    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint-3"]


@pytest.mark.parametrize("number", SIGNALS)
def test_handlers_come_back_with_the_first_signal(number):
    former = signal.getsignal(number)

    with StopRequest() as stop:
        assert signal.getsignal(number) != former
        signal.raise_signal(number)

        assert stop.number == number
        assert signal.getsignal(number) == former


def test_handlers_come_back_without_a_signal():
    former = [signal.getsignal(number) for number in SIGNALS]

    with StopRequest() as stop:
        pass

    assert stop.number is None
    assert [signal.getsignal(number) for number in SIGNALS] == former


def train_of_two(out):
    first = os.environ["RANK"] == "0"
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    run(
        out,
        options=make_options(per_device_train_batch_size=1),
        objective=None if first else Signalling(signal.SIGTERM, calls=5),
    )


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_at_one_step(tmp_path):
    assert run_together(2, train_of_two, tmp_path) == [0, 0]

    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint-3"]
