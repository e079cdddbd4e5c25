"""A disk that runs out at every stage: exit code 6, the old generation stays, the rest goes on."""

import json
import re
import shutil
import subprocess
from itertools import count
from pathlib import Path

import pytest

from ragkit.encoders import load_encoder
from ragkit.errors import StorageError
from ragkit.index.layout import Layout
from ragkit.index.manifest import read_current
from ragkit.index.verify import verify_index
from ragkit.retrieval.build import build_index
from ragkit.retrieval.retriever import Retriever
from tests.cli.running import build

pytestmark = pytest.mark.slow

PAGE_BYTES = 4096
ROOMY, TIGHT = 8 << 20, 64 << 10
FREE = r"\d+ (bytes )?are free"
OPTIONS = {
    "exact": {"part_rows": 60},
    "IVF8,Flat": {"part_rows": 600, "ann": "IVF8,Flat"},
    "HNSW8": {"part_rows": 600, "ann": "HNSW8"},
}
ROWS = {"exact": 120, "IVF8,Flat": 1200, "HNSW8": 1200}
FAILING = {
    "exact": {
        "part.f16",
        "journal.jsonl",
        "passages.arrow",
        "keys.arrow",
        "vectors.f16",
        "segment.json",
        "000002.canary.f32",
        "000002.json",
    },
    "IVF8,Flat": {"ann.faiss"},
    "HNSW8": {"ann.faiss"},
}
STEP_PAGES = {"exact": 1, "IVF8,Flat": 10, "HNSW8": 10}


class Disk:
    """A file system in memory that is as small as a test wants it.

    Args:
        path: Where it is mounted.
    """

    def __init__(self, path):
        self.path, self._ballast = path, path / "ballast"

    def mount(self, *, size_bytes, options="size={}"):
        """Whether it could be mounted; what went wrong, if not."""
        flags = ["-t", "tmpfs", "-o", options.format(size_bytes), "tmpfs", str(self.path)]
        return subprocess.run(["mount", *flags], capture_output=True, text=True, check=False)

    def resize(self, size_bytes):
        """Give it another size; what lies on it stays."""
        self.mount(size_bytes=size_bytes, options="remount,size={}").check_returncode()

    def leave(self, pages):
        """Fill it up until so many pages are free."""
        size_bytes = shutil.disk_usage(self.path).free - pages * PAGE_BYTES
        self._ballast.write_bytes(bytes(size_bytes))

    def drain(self):
        """Take away what `leave` put there."""
        self._ballast.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path / "disk")
    disk.path.mkdir()
    mounted = disk.mount(size_bytes=ROOMY)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk.path)], check=True)


class FillingEncoder:
    """The hash encoder; before it embeds the first part it leaves so many pages on the disk."""

    def __init__(self, disk, pages):
        self._inner, self._disk, self._pages = load_encoder("hash:16"), disk, pages

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def embed(self, tokens):
        if self._pages is not None:
            self._disk.leave(self._pages)
            self._pages = None
        return self._inner.embed(tokens)


def write_corpus(path, *, rows, word):
    lines = [json.dumps({"id": str(i), "text": f"{word} {i} {i * i % 97}"}) for i in range(rows)]
    path.write_text("\n".join(lines))
    return path


def name_of_file(error):
    """Last part of the path that could not be written, without what differs from run to run."""
    path = Path(re.match(r"cannot write (.+?): ", str(error))[1])
    return path.name if len(path.stem) < 20 else f"part{path.suffix}"


def error_of(corpus, index, disk, pages, ann):
    """What a rebuild says of a disk that leaves it so many pages; `None` if they are enough."""
    encoder = FillingEncoder(disk, pages)
    try:
        build_index(corpus, index, encoder=encoder, overwrite=True, **OPTIONS[ann])
    except StorageError as error:
        return error
    finally:
        disk.drain()
    return None


@pytest.mark.parametrize("ann", OPTIONS)
def test_nothing_is_lost_when_the_disk_fills_up_while_a_build_runs(tmp_path, disk, ann):
    old = write_corpus(tmp_path / "old.jsonl", rows=60, word="old")
    new = write_corpus(tmp_path / "new.jsonl", rows=ROWS[ann], word="new")
    saved, index = tmp_path / "saved", disk.path / "i"
    build_index(old, saved, encoder="hash:16")
    expected = build_index(new, tmp_path / "new", encoder="hash:16", **OPTIONS[ann]).content_hash
    failed = set()

    for pages in count(0, STEP_PAGES[ann]):
        shutil.copytree(saved, index)
        error = error_of(new, index, disk, pages, ann)
        if error is None:
            break
        failed.add(name_of_file(error))
        assert re.search(FREE, str(error))
        assert verify_index(index) == []
        with Retriever.open(index) as retriever:
            assert retriever.search("old 7")[0].text.startswith("old ")
        build_index(new, index, encoder="hash:16", overwrite=True, **OPTIONS[ann])
        assert_holds(index, expected)
        shutil.rmtree(index)

    assert_holds(index, expected)
    assert failed >= FAILING[ann]


def assert_holds(index, content_hash):
    assert read_current(Layout(index)).content_hash == content_hash
    assert verify_index(index) == []


def test_a_disk_that_is_full_from_the_start_is_refused_and_used_once_it_has_grown(tmp_path, disk):
    corpus = write_corpus(tmp_path / "c.jsonl", rows=900, word="new")
    expected = build_index(corpus, tmp_path / "i", encoder="hash:16").content_hash
    disk.resize(TIGHT)
    said = []

    for pages in range(0, TIGHT // PAGE_BYTES, 2):
        disk.leave(pages)
        result = build(corpus, "-o", disk.path / "i")
        disk.drain()

        assert result.exit_code == 6
        assert re.search(FREE, result.stderr)
        assert "Traceback" not in result.stderr
        assert not (disk.path / "i" / "CURRENT").exists()
        said.append(result.stderr)
    assert any("RAGKIT: no space left" in line for line in said)
    assert any("000000.arrow: no space left" in line for line in said)

    disk.resize(ROOMY)
    assert build(corpus, "-o", disk.path / "i").exit_code == 0
    assert_holds(disk.path / "i", expected)


def test_a_build_that_will_not_fit_is_refused_before_it_embeds(tmp_path, disk):
    corpus = write_corpus(tmp_path / "c.jsonl", rows=900, word="new")
    disk.resize(2 * ROOMY // 64)

    result = build(corpus, "-o", disk.path / "i", "--encoder", "hash:512")

    assert result.exit_code == 6
    assert re.search(rf"needs about \d+ bytes, {FREE}: free some space or choose", result.stderr)


def test_refused_rows_that_cannot_be_written_down_stop_the_build(tmp_path, disk):
    corpus = write_corpus(tmp_path / "c.jsonl", rows=5, word="new")
    corpus.write_text(corpus.read_text() + "\n" + "not JSON\n" * 900)
    disk.resize(TIGHT)

    result = build(corpus, "-o", disk.path / "i", "--max-rejects", "100%")

    assert result.exit_code == 6
    assert "free space or choose another place" in result.stderr
