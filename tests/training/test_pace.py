import pytest
from transformers import TrainerControl, TrainerState

from ragkit.training.folder import RunFolder
from ragkit.training.pace import Pace
from ragkit.training.tally import Tally
from tests.training.tiny import lines_of

MAX_RATE = 1e9


class Bar:
    def __init__(self):
        self.done, self.facts = 0, {}

    def advance(self, count=1, **facts):
        self.done, self.facts = self.done + count, facts


@pytest.fixture
def events(tmp_path):
    """Calls each event of a pace as transformers does, after ten tokens an update."""
    tally, bar = Tally(num_tokens=100), Bar()
    pace = Pace(tally, bar, folder=RunFolder(tmp_path), max_rate=MAX_RATE)
    state, control = TrainerState(), TrainerControl()

    def call(event, **facts):
        if event == "on_step_end":
            state.global_step += 1
            tally.add(loss_nats=2.5, num_targets=8, num_tokens=10)
        getattr(pace, event)(None, state, control, **facts)

    call.pace, call.bar = pace, bar
    call("on_train_begin")
    return call


def test_a_line_covers_the_updates_since_the_last_one(tmp_path, events):
    for num_steps in (3, 1):
        for _ in range(num_steps):
            events("on_step_end")
        events("on_log", logs={"loss": 2.5})

    lines = lines_of(tmp_path, "timings")
    assert [line["step"] for line in lines] == [3, 4]
    assert [line["tokens_per_s"] * line["seconds"] for line in lines] == pytest.approx([30, 10])
    for line in lines:
        assert line["flops_share"] == line["tokens_per_s"] / MAX_RATE
    assert events.pace.seconds == pytest.approx(sum(line["seconds"] for line in lines))
    assert (events.bar.done, events.bar.facts["loss"]) == (4, 2.5)


def test_other_logs_are_no_lines(tmp_path, events):
    events("on_step_end")

    events("on_log", logs={"eval_loss_nats": 2.5})

    assert not (tmp_path / "timings.jsonl").exists()


def test_evaluations_and_checkpoints_take_no_time(events, monkeypatch):
    clock = iter([5.0, 105.0, 205.0, 208.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    events("on_train_begin")

    events("on_evaluate")
    events("on_save")
    events("on_step_end")

    assert events.pace.seconds == 3
