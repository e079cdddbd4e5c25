import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from ragkit.index.layout import Layout
from ragkit.index.manifest import read_current
from tests.faults.processes import NUM_PARTS, Build, write_corpus


@dataclass(frozen=True)
class Undisturbed:
    """What a build does when nobody interferes."""

    corpus: Path
    index: Path
    content_hash: str
    seconds: float


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    build = Build(folder, write_corpus(folder / "c.jsonl"), folder / "i")
    started = time.monotonic()
    result = build.run()
    seconds = time.monotonic() - started
    assert result.returncode == 0, result.stderr
    assert len(build.notes("end")) == NUM_PARTS
    content_hash = read_current(Layout(build.index)).content_hash
    return Undisturbed(folder / "c.jsonl", build.index, content_hash, seconds)
