"""Runs a build over and over, each time disturbed one step later, and each time run again.

A step is a change of a folder: a file made, renamed or removed. Prints a JSON line per build. One
process does it all: it imports ragkit once and forks a child for each command, so that a try costs
a fraction of a second and no kill falls into the imports.

Usage: python stepwise.py kill|fail INDEX SAVED -- ARGUMENTS...

`kill` ends the build by SIGKILL at the step, `fail` lets the step fail as on a full disk. INDEX is
replaced by a copy of SAVED (or removed, if that does not exist) before each build; ARGUMENTS are
those of `ragkit`.
"""

import errno
import json
import os
import shutil
import signal
import sys
from pathlib import Path

from ragkit.cli.app import app
from ragkit.index.faiss.runtime import load
from ragkit.index.layout import Layout
from ragkit.index.manifest import read_current
from ragkit.index.passages import to_batch
from ragkit.index.verify import verify_index
from ragkit.retrieval import build  # noqa: F401 - imported before the forks, not after
from ragkit.types import Passage

CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def main():
    """Disturb the build at step 1, 2, ... until it comes to its end unharmed."""
    disturb = {"kill": kill, "fail": fail}[sys.argv[1]]
    index, saved, arguments = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[5:]
    warm_up()
    step, disturbed = 0, True
    while disturbed:
        step += 1
        shutil.rmtree(index, ignore_errors=True)
        if saved.is_dir():
            shutil.copytree(saved, index)
        first = run(arguments, disturb=disturb, step=step, below=index)
        disturbed = first["disturbed"]
        line = {"step": step, "first": first, "between": state(index)}
        line |= {"second": run(arguments), "after": state(index)}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def warm_up():
    """Import here what would otherwise be imported anew after every fork."""
    load()
    to_batch([Passage("a", "a", "text")])


def kill():
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def fail():
    """Let the step that is about to be taken fail."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def run(arguments, *, disturb=None, step=0, below=None):
    """Exit code and stderr of a command, and whether it came as far as the step."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        os.dup2(into, sys.stderr.fileno())
        if disturb is not None:
            watch_steps(disturb, step, str(below))
        app(arguments)
    os.close(into)
    with os.fdopen(out, encoding="utf-8") as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"exit_code": code, "stderr": said.replace(MARK, ""), "disturbed": MARK in said}


MARK = "-- disturbed --\n"


def watch_steps(disturb, number, below):
    """Disturb this process just before its change of that number."""
    steps = 0

    def watch(event, arguments):
        nonlocal steps
        if is_change(event, arguments, below):
            steps += 1
            if steps == number:
                os.write(sys.stderr.fileno(), MARK.encode())
                disturb()

    sys.addaudithook(watch)


def is_change(event, arguments, below):
    """Whether an audit event is a change of the folder."""
    if event == "open":
        path, _, flags = arguments
        return str(path).startswith(below) and bool(flags & WRITES)
    return event in CHANGES


def state(index):
    """Content hash and faults of what is published; `None` if nothing is."""
    if not (index / "CURRENT").exists():
        return None
    faults = [fault.reason for fault in verify_index(index)]
    return {"content_hash": read_current(Layout(index)).content_hash, "faults": faults}


if __name__ == "__main__":
    main()
