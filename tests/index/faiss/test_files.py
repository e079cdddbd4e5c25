import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ragkit.errors import IndexCorruptError
from ragkit.index.faiss.ann import AnnIndex
from ragkit.index.faiss.files import read_header
from ragkit.index.vectors import Vectors

DIM, ROWS = 16, 3_000

# Opens an index, searches it and prints the anonymous memory that took, in kB.
MEMORY = """
import sys
from pathlib import Path
import numpy as np
from ragkit.index.faiss.ann import AnnIndex
from ragkit.index.faiss.runtime import load

def anonymous():
    line = next(l for l in open("/proc/self/status") if l.startswith("RssAnon"))
    return int(line.split()[1])

query = np.ones((1, int(sys.argv[3])), np.float32)
warm = load().IndexFlatIP(query.shape[1])
warm.add(query)
warm.search(query, 1)
before = anonymous()
ann = AnnIndex.open(Path(sys.argv[1]), mmap=sys.argv[2] == "map")
ann.search(query, k=3)
print(anonymous() - before)
"""


class FullDisk(io.BytesIO):
    """Accepts 3,000 bytes."""

    def write(self, data):
        if self.tell() + len(data) > 3_000:
            raise OSError(28, "No space left on device")
        return super().write(data)


@pytest.fixture(scope="module")
def vectors():
    return Vectors(np.random.default_rng(0).standard_normal((ROWS, DIM), dtype=np.float32))


def saved(factory, vectors, path, *, metric="ip"):
    with path.open("wb") as file:
        AnnIndex.build(factory, vectors, metric=metric, seed=0, threads=1).write(file)
    return path


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "IVF16,Flat", "PCA8,IVF16,SQ8", "SQ8"])
def test_full_disk_is_an_error(factory, vectors):
    ann = AnnIndex.build(factory, vectors, metric="ip", seed=0, threads=1)

    with pytest.raises(OSError, match="No space left"):
        ann.write(FullDisk())


def test_full_disk_is_an_error_for_the_smallest_index():
    one = Vectors(np.ones((1, 3), np.float32))
    ann = AnnIndex.build("Flat", one, metric="ip", seed=0, threads=1)

    with (
        pytest.raises(OSError, match="No space left"),
        Path("/dev/full").open("wb", buffering=0) as file,
    ):
        ann.write(file)


@pytest.mark.parametrize(
    "factory",
    ["Flat", "HNSW8", "HNSW8,SQ8", "IVF16,Flat", "IVF16,PQ4x4fs", "IVF16,RaBitQ", "PCA8,IVF16,Flat",
     "SQ8", "PQ4x4fs", "IVF16,SQ8,RFlat"],
)  # fmt: skip
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_header_says_what_the_file_holds(factory, metric, vectors, tmp_path):
    header = read_header(saved(factory, vectors, tmp_path / "ann", metric=metric))

    assert (header.dim, header.rows, header.trained) == (DIM, ROWS, True)
    assert header.metric == (1 if metric == "l2" else 0)


@pytest.mark.parametrize(
    ("expected", "hint"),
    [
        ({"expect_dim": DIM + 1}, "expected dimensions 17, found 16"),
        ({"expect_rows": ROWS - 1}, "expected rows 2999, found 3000"),
        ({"expect_metric": "l2"}, "expected metric"),
    ],
)
def test_another_index_than_expected_is_refused(expected, hint, vectors, tmp_path):
    path = saved("HNSW8", vectors, tmp_path / "ann")

    with pytest.raises(IndexCorruptError, match=hint):
        AnnIndex.open(path, **expected)


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "IVF16,Flat", "PCA8,IVF16,SQ8", "SQ8"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_short_file_is_refused(factory, share, mmap, vectors, tmp_path):
    path = saved(factory, vectors, tmp_path / "ann")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])

    with pytest.raises(IndexCorruptError, match="rebuild"):
        AnnIndex.open(path, mmap=mmap)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(IndexCorruptError, match="ragkit index verify"):
        AnnIndex.open(tmp_path / "ann")


@pytest.mark.parametrize("start", [b"\0" * 64, b"not an index at all" * 9, b"IxFI" + b"\xff" * 90])
def test_garbage_is_refused(start, tmp_path):
    path = tmp_path / "ann"
    path.write_bytes(start)

    with pytest.raises(IndexCorruptError, match="rebuild"):
        AnnIndex.open(path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("factory", ["Flat", "HNSW4", "SQ8", "IVF16,Flat", "PCA64,IVF16,Flat"])
def test_mapped_index_takes_no_memory_for_its_rows(factory, tmp_path):
    many = Vectors(np.random.default_rng(0).standard_normal((9_000, 128), dtype=np.float32))
    path = saved(factory, many, tmp_path / "ann")

    mapped, read = [
        int(
            subprocess.run(
                [sys.executable, "-c", MEMORY, str(path), how, "128"],
                capture_output=True, text=True, check=True,
            ).stdout
        )
        for how in ("map", "read")
    ]  # fmt: skip

    assert read > 0.7 * path.stat().st_size / 1_024
    assert mapped < 0.5 * read
