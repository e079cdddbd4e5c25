"""Writes and maps faiss files.

`faiss.write_index(path)` can fail without saying so, and its files have no checksum; both are
the reason for what stands here. Which way of mapping works was measured with faiss 1.15:
inverted lists map by the classic flag, all else by the "IFC" flag, packed codes not at all.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ragkit.errors import IndexCorruptError
from ragkit.index.faiss.chatter import capture_stderr
from ragkit.index.faiss.runtime import load
from ragkit.index.faiss.structure import faiss_metric, inspect, reason
from ragkit.types import Metric

# Magic, dimension, rows, two constants, trained, metric: the start of every kind of index.
HEADER = struct.Struct("<4siqqq?i")


@dataclass(frozen=True, slots=True)
class Header:
    """The first fields of a faiss file."""

    magic: bytes
    dim: int
    rows: int
    trained: bool
    metric: int


def write_index(index: Any, file: BinaryIO) -> None:  # noqa: ANN401
    """Write `index` to an open file, whose errors (a full disk) come through as they are."""
    faiss = load()
    write: Callable[[bytes], int] = file.write
    faiss.write_index(index, faiss.PyCallbackIOWriter(write))


def read_header(path: Path) -> Header:
    """The start of the file at `path`.

    Raises:
        IndexCorruptError: The file is missing or too short.
    """
    try:
        with path.open("rb") as file:
            start = file.read(HEADER.size)
    except OSError as error:
        raise _corrupt(path, f"expected a faiss file, found {error.strerror}") from error
    if len(start) < HEADER.size:
        raise _corrupt(path, f"expected at least {HEADER.size} bytes, found {len(start)}")
    magic, dim, rows, _, _, trained, metric = HEADER.unpack(start)
    return Header(magic, dim, rows, trained, metric)


def check_header(
    path: Path,
    *,
    dim: int | None = None,
    rows: int | None = None,
    metric: Metric | None = None,
) -> None:
    """Compare the start of the file with what the caller knows, before faiss touches it.

    Raises:
        IndexCorruptError: A field differs.
    """
    header = read_header(path)
    if not header.trained:
        raise _corrupt(path, "expected a trained index, found an untrained one")
    pairs = {
        "dimensions": (dim, header.dim),
        "rows": (rows, header.rows),
        "metric": (None if metric is None else faiss_metric(metric), header.metric),
    }
    for name, (expected, found) in pairs.items():
        if expected is not None and expected != found:
            raise _corrupt(path, f"expected {name} {expected}, found {found}")


def read_index(path: Path, *, mmap: bool) -> Any:  # noqa: ANN401
    """The index at `path`, its bulk left on disk if `mmap` is set and its type allows it.

    Raises:
        IndexCorruptError: faiss cannot read the file, or its lists do not hold its rows.
    """
    faiss = load()
    try:
        with capture_stderr():
            index = _read_mapped(path) if mmap else faiss.read_index(str(path))
    except (RuntimeError, MemoryError) as error:
        raise _corrupt(path, f"faiss cannot read it ({reason(error)})") from error
    lists = faiss.try_extract_index_ivf(index)
    if lists is not None and lists.invlists.compute_ntotal() != index.ntotal:
        held = lists.invlists.compute_ntotal()
        raise _corrupt(path, f"expected {index.ntotal} rows in its lists, found {held}")
    return index


def _read_mapped(path: Path) -> Any:  # noqa: ANN401
    faiss = load()
    # The magic of plain inverted lists starts so; a transform hides what it is wrapped around.
    if read_header(path).magic.startswith(b"Iw"):
        return _map_lists(path)
    index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    structure = inspect(index)
    if structure.kind == "ivf" and not structure.refines:
        return _map_lists(path)
    return index


def _map_lists(path: Path) -> Any:  # noqa: ANN401
    faiss = load()
    index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    lists = faiss.downcast_InvertedLists(faiss.extract_index_ivf(index).invlists)
    if isinstance(lists, faiss.OnDiskInvertedLists):
        # It would start 32 threads for each query to read ahead: five times slower when warm.
        lists.prefetch_nthread = 0
    return index


def _corrupt(path: Path, what: str) -> IndexCorruptError:
    return IndexCorruptError(f"{path}: {what}: run `ragkit index verify`, then rebuild the index")
