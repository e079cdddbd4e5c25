"""Ctrl-C, SIGTERM and a second writer: each ends with its code and a word on how to go on."""

import shlex
import signal
import socket
import subprocess
import time

import pytest

from tests.faults.processes import Build, appeared, assert_published, wait_until

pytestmark = pytest.mark.slow

JOURNAL = "build/*/journal.jsonl"
AT_ONCE_S = 2.0
LONG_S = 30


def stopped_by(process, signum):
    """Exit code and stderr of a process that gets the signal."""
    process.send_signal(signum)
    _, stderr = process.communicate(timeout=LONG_S)
    assert "Traceback" not in stderr
    return process.returncode, stderr


@pytest.mark.parametrize(("signum", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_build_says_how_to_go_on(undisturbed, tmp_path, signum, exit_code):
    build = Build(tmp_path, undisturbed.corpus, tmp_path / "my index")
    process = build.start()
    wait_until(appeared(build.index, JOURNAL), process)

    code, stderr = stopped_by(process, signum)

    assert code == exit_code
    _, hint = stderr.strip().split("; go on with: ")
    embedded = len(build.notes("end"))
    subprocess.run(shlex.split(hint), env=build.environment, capture_output=True, check=True)
    assert_published(build.index, undisturbed.content_hash)
    assert len(build.notes("begin")) <= len(build.notes("end")) + 1
    assert embedded < len(build.notes("end")) <= embedded + 8


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_build_stopped_while_it_starts_says_nothing_odd(undisturbed, tmp_path, signum):
    build = Build(tmp_path, undisturbed.corpus, tmp_path / "i")
    process = build.start()
    ends = time.monotonic() + undisturbed.seconds / 4
    wait_until(lambda: time.monotonic() > ends, process)

    code, _ = stopped_by(process, signum)

    assert code in (-signum, 128 + signum)
    assert build.run().returncode == 0
    assert_published(build.index, undisturbed.content_hash)


def test_a_second_ctrl_c_ends_at_once(undisturbed, tmp_path):
    corpus, index = undisturbed.corpus, tmp_path / "i"
    slow = Build(tmp_path, corpus, index, pause_s=LONG_S, stubborn=True)
    process = slow.start()
    wait_until(lambda: slow.notes("begin"), process)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: slow.notes("asked to stop"), process)
    started = time.monotonic()

    code, _ = stopped_by(process, signal.SIGINT)

    assert code == 130
    assert time.monotonic() - started < AT_ONCE_S
    assert Build(tmp_path, corpus, index).run().returncode == 0
    assert_published(index, undisturbed.content_hash)


def test_a_second_writer_is_refused_at_once_and_does_no_harm(undisturbed, tmp_path):
    first = Build(tmp_path, undisturbed.corpus, tmp_path / "i", pause_s=1.5)
    process = first.start()
    wait_until(lambda: first.notes("begin"), process)  # nothing is in the journal yet
    second = Build(tmp_path / "i", undisturbed.corpus, tmp_path / "i", pause_s=LONG_S)

    refused = second.run()

    assert refused.returncode == 8
    assert f"process {process.pid} on {socket.gethostname()}" in refused.stderr
    assert "wait until it ends" in refused.stderr
    assert process.poll() is None
    assert list(first.index.glob("build/*/settings.json"))
    process.kill()
    process.communicate()
    assert Build(tmp_path, undisturbed.corpus, tmp_path / "i").run().returncode == 0
    assert_published(tmp_path / "i", undisturbed.content_hash)
