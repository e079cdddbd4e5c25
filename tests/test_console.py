import json
import logging

import pytest

from ragkit import console


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """Undo what `setup` changes in the process."""
    package = logging.getLogger("ragkit")
    monkeypatch.setattr(package, "handlers", package.handlers)
    monkeypatch.setattr(package, "propagate", package.propagate)
    monkeypatch.setattr(console, "_kind", "none")
    level = package.level
    yield
    for handler in package.handlers:
        handler.close()
    package.setLevel(level)


def test_progress_is_silent_until_a_program_asks_for_it(capfd):
    items = list(console.track(range(5), description="reading"))

    assert items == [0, 1, 2, 3, 4]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["auto", "bar", "json", "none"])
def test_progress_leaves_stdout_to_the_result(capfd, kind):
    console.setup(progress=kind)

    items = list(console.track(iter("abc"), description="reading", total=3))

    assert items == ["a", "b", "c"]
    assert capfd.readouterr().out == ""


def test_json_progress_ends_with_the_final_count(capfd):
    console.setup(progress="json")

    with console.progress("encoding", total=7) as bar:
        bar.advance(4)
        bar.advance(3, tokens_per_second=12.5)

    last = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert (last["stage"], last["done"], last["total"]) == ("encoding", 7, 7)
    assert last["tokens_per_second"] == 12.5
    assert last["eta_s"] == 0


def test_json_progress_without_a_total_promises_no_end(capfd):
    console.setup(progress="json")

    with console.progress("encoding") as bar:
        bar.advance(4)

    assert json.loads(capfd.readouterr().err)["eta_s"] is None


def test_a_bar_shows_stage_count_and_facts(capfd):
    console.setup(progress="bar")

    with console.progress("encoding", total=5) as bar:
        bar.advance(5, speed=1234.5)

    drawn = capfd.readouterr().err
    assert "encoding" in drawn
    assert "5/5" in drawn
    assert "speed 1.23e+03" in drawn


def test_a_long_stage_becomes_a_log_line_where_nobody_watches(capfd, monkeypatch):
    monkeypatch.setattr(console, "QUIET_S", 0.0)
    console.setup(progress="auto")

    with console.progress("encoding", total=5) as bar:
        bar.advance(5)

    assert "encoding: 5 of 5" in capfd.readouterr().err


def test_a_short_stage_leaves_no_line_where_nobody_watches(capfd):
    console.setup(progress="auto")

    with console.progress("encoding", total=5) as bar:
        bar.advance(5)

    assert capfd.readouterr().err == ""


def test_a_stage_within_a_stage_shares_the_display(capfd):
    console.setup(progress="bar")

    with console.progress("parts", total=2) as outer:
        for _ in range(2):
            assert list(console.track(range(3), description="batch")) == [0, 1, 2]
            outer.advance()

    assert "2/2" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("verbosity", "shown"),
    [
        (-1, ["error"]),
        (0, ["warning", "error"]),
        (1, ["info", "warning", "error"]),
        (2, ["debug", "info", "warning", "error"]),
    ],
)
def test_verbosity_chooses_the_messages(tmp_path, verbosity, shown):
    log_file = tmp_path / "run.log"
    console.setup(progress="none", verbosity=verbosity, log_file=str(log_file))
    logger = logging.getLogger("ragkit.somewhere")

    for level in ("debug", "info", "warning", "error"):
        getattr(logger, level)(level)

    assert log_file.read_text().split() == shown


def test_logs_of_other_libraries_are_left_alone(capfd):
    console.setup(verbosity=2)

    logging.getLogger("elsewhere").info("chatter")

    assert "chatter" not in capfd.readouterr().err
