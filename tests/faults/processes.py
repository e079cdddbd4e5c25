"""Builds that run in a process of their own, so that they can be killed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from ragkit.index.layout import Layout
from ragkit.index.manifest import read_current
from ragkit.index.verify import verify_index

HERE = Path(__file__).parent
NUM_PARTS, PART_ROWS = 8, 23  # no other call of the encoder has so many texts
POLL_S = 5e-4
PATIENCE_S = 60
WORDS = ["amber", "birch", "cedar", "delta", "ember", "flint", "grove"]


def write_corpus(path, *, salt=""):
    """A corpus whose passages fill all parts; another salt gives other texts under the same ids."""
    texts = [f"{WORDS[i % 7]} {WORDS[i % 5]} {salt}{i}" for i in range(NUM_PARTS * PART_ROWS)]
    rows = [json.dumps({"id": f"d{i}", "text": text}) for i, text in enumerate(texts)]
    path.write_text("\n".join(rows))
    return path


class Build:
    """One command line that may run several times.

    Args:
        folder: Where the encoder's log goes.
        pause_s: How long the encoder takes for a part.
    """

    def __init__(self, folder, corpus, index, *flags, pause_s=0.02, stubborn=False):
        program = Path(sys.executable).with_name("build-index")
        encoder = ("--encoder", "python:slow_encoder:embed", "--part-rows", PART_ROWS)
        self.index = index
        self.command = [str(one) for one in (program, corpus, "-o", index, *encoder, *flags)]
        self.log = folder / "embedded.log"
        self.environment = {
            **os.environ,
            "EMBED_LOG": str(self.log),
            "OMP_NUM_THREADS": "1",
            "PAUSE_S": str(pause_s),
            "PYTHONPATH": str(HERE),
            "SLOW_ROWS": str(PART_ROWS),
            "STUBBORN": "1" if stubborn else "",
        }

    def start(self):
        """The process, just started."""
        return subprocess.Popen(
            self.command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self):
        """The finished process."""
        return subprocess.run(
            self.command, env=self.environment, capture_output=True, text=True, check=False
        )

    def notes(self, kind):
        """The encoder's notes of a kind, such as `begin`: one per part."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if line.startswith(kind)]


def wait_until(condition, process):
    """Return when the condition holds or the process has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline, "the process hangs"
        time.sleep(POLL_S)


def appeared(index, pattern):
    """Tells whether a file that matches the pattern is in the index."""
    return lambda: any(index.glob(pattern))


def assert_published(index, content_hash):
    """The index is whole and holds what it should."""
    __tracebackhide__ = True
    assert read_current(Layout(index)).content_hash == content_hash
    assert verify_index(index) == []
