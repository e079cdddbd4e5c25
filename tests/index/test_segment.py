import sys
import threading

import numpy as np
import pytest

from ragkit.errors import IndexCorruptError
from ragkit.index.passages import to_batch
from ragkit.index.segment import SegmentFolder, entry_of, open_segment
from ragkit.types import Passage
from tests.limits import limited

ROWS, DIM = 5, 3
NAME = "0" * 26


@pytest.fixture
def index(tmp_path):
    """The folder of an index, and what its manifest would say of its one segment."""
    path = tmp_path / "seg" / NAME
    path.mkdir(parents=True)
    folder = SegmentFolder(path)
    folder.write_passages([to_batch([Passage(str(i), str(i), f"text {i}") for i in range(ROWS)])])
    block = np.arange(ROWS * DIM, dtype=np.float32).reshape(ROWS, DIM)
    folder.write_vectors([block], dim=DIM, dtype="f32", scale=None)
    return tmp_path, entry_of(path, NAME, rows=folder.finish(), base=0)


@pytest.fixture(scope="module")
def opened():
    """Names of the files that Python opened since the fixture's list was cleared."""
    names, is_over = [], threading.Event()

    def watch(event, arguments):
        if event == "open" and not is_over.is_set():
            names.append(str(arguments[0]))

    sys.addaudithook(watch)
    yield names
    is_over.set()  # a hook cannot be taken away


@pytest.mark.parametrize("hash_small", [True, False])
def test_a_file_that_cannot_be_read_is_named(index, hash_small):
    root, entry = index

    with (
        pytest.raises(IndexCorruptError, match=r"seg/.* cannot be read .*check its permissions"),
        limited("RLIMIT_NOFILE", 0),
    ):
        open_segment(root, entry, metric="ip", hash_small=hash_small)


@pytest.mark.parametrize("hash_small", [True, False])
def test_what_describes_the_others_is_hashed_once_and_read_once(index, opened, hash_small):
    root, entry = index
    opened.clear()

    open_segment(root, entry, metric="ip", hash_small=hash_small)

    assert sum(name.endswith("segment.json") for name in opened) == 2


def test_a_small_file_is_hashed_whole_unless_told_not_to(index):
    root, entry = index
    path = root / "seg" / NAME / "vectors.f32"
    path.write_bytes(path.read_bytes()[::-1])

    with pytest.raises(IndexCorruptError, match=r"vectors\.f32 is damaged: restore it"):
        open_segment(root, entry, metric="ip")
    assert open_segment(root, entry, metric="ip", hash_small=False).rows == ROWS
