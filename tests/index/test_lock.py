import json
import subprocess
import sys

import pytest

from ragkit.errors import IndexLockedError
from ragkit.index.lock import writer_lock

HOLD = """
import sys
from pathlib import Path
from ragkit.index.lock import writer_lock
with writer_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock until its stdin closes."""
    path = tmp_path / "LOCK"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield path, process
    process.kill()
    process.communicate()


def test_the_second_writer_learns_who_the_first_is(holder):
    path, process = holder

    with (
        pytest.raises(IndexLockedError, match=rf"process {process.pid} on .*wait until it ends"),
        writer_lock(path),
    ):
        pass


def test_the_lock_of_a_killed_process_is_free(holder):
    path, process = holder
    process.kill()
    process.wait()

    with writer_lock(path):
        assert json.loads(path.read_text())["pid"] != process.pid


def test_the_lock_is_free_after_the_block(tmp_path):
    for _ in range(2):
        with writer_lock(tmp_path / "LOCK"):
            pass

    assert (tmp_path / "LOCK").read_bytes() == b""


def test_the_lock_of_another_host_needs_to_be_broken(tmp_path):
    path = tmp_path / "LOCK"
    path.write_text(json.dumps({"pid": 7, "host": "elsewhere"}))

    with (
        pytest.raises(IndexLockedError, match=r"process 7 on elsewhere.*--break-lock"),
        writer_lock(path),
    ):
        pass

    with writer_lock(path, break_lock=True):
        assert json.loads(path.read_text())["host"] != "elsewhere"


def test_a_torn_signature_does_not_lock(tmp_path):
    path = tmp_path / "LOCK"
    path.write_text('{"pid": 7, "ho')

    with writer_lock(path):
        pass
