"""A run that is killed in any stage ends with the same summary as one that was left alone."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.finetune.radit.tiny_run import write_run

pytestmark = pytest.mark.slow

# A file that appears within, or at the end of, each stage.
MARKS = {
    "index": "index/LOCK",
    "candidates of the LM": "run/round-1/candidates/lm",
    "LM": "run/round-1/lm/checkpoints/*/model.safetensors",
    "tuned LM": "run/round-1/lm/model",
    "candidates of the retriever": "run/round-1/candidates/retriever",
    "scores": "run/scores/*",
    "retriever": "run/round-1/retriever/checkpoints/*/model.safetensors",
    "second round": "run/round-2/candidates/lm",
}
DEADLINE_S = 300


def start(folder):
    command = "from ragkit.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", command, "finetune", str(folder / "recipe.yaml"), "-q"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_at(folder, pattern):
    """Run until something of that name is there, and kill; whether it was still running."""
    process = start(folder)
    deadline = time.monotonic() + DEADLINE_S
    while process.poll() is None and not list(folder.glob(pattern)):
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def complete(folder):
    process = start(folder)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, errors
    return (folder / "run/summary.json").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    write_run(folder, rounds=2)
    return complete(folder)


@pytest.mark.parametrize("stage", MARKS)
def test_a_run_killed_in_a_stage_ends_with_the_same_summary(stage, undisturbed, tmp_path):
    write_run(tmp_path, rounds=2)

    killed = kill_at(tmp_path, MARKS[stage])

    assert killed
    assert complete(tmp_path) == undisturbed
