"""Raw row-major blocks of vectors, without a header; shape and dtype stand in `segment.json`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import IndexCorruptError
from ragkit.index.decode import decode
from ragkit.index.single import best_rows

VectorDtype = Literal["f32", "f16", "i8"]

VALUE_BYTES: dict[VectorDtype, int] = {"f32": 4, "f16": 2, "i8": 1}

KEPT_VALUES = 1 << 24
"""Up to 64 MiB of fp32: decoding them for every query would take longer than comparing them."""

NUMPY_DTYPES: dict[VectorDtype, type[np.generic]] = {
    "f32": np.float32,
    "f16": np.float16,
    "i8": np.int8,
}


class Vectors:
    """The vectors of a segment, mapped; row `i` embeds passage `i`.

    Args:
        stored: `[rows, dim]` as on disk.
        scale: `[dim]` factors that turn `i8` codes into values; `None` for floats.
    """

    def __init__(
        self, stored: NDArray[np.generic], scale: NDArray[np.float32] | None = None
    ) -> None:
        self.stored = stored
        # Slicing a memmap makes a memmap, which costs more than the rest of a small read.
        self._array = np.asarray(stored)
        self._scale = scale
        self._decoded: Vectors | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        rows: int,
        dim: int,
        dtype: VectorDtype,
        scale: NDArray[np.float32] | None = None,
        mmap: bool = True,
    ) -> "Vectors":
        """The block at `path`.

        Raises:
            IndexCorruptError: The file is missing or has another size than `[rows, dim]` needs.
        """
        numpy_dtype = np.dtype(NUMPY_DTYPES[dtype]).newbyteorder("<")
        expected = rows * dim * numpy_dtype.itemsize
        found = path.stat().st_size if path.is_file() else None
        if found != expected:
            raise IndexCorruptError(
                f"{path}: expected {expected} bytes for {rows} vectors of {dim} x {dtype}, found "
                f"{'no file' if found is None else found}: run `ragkit index verify`, then rebuild"
            )
        if rows == 0:
            return cls(np.empty((0, dim), numpy_dtype), scale)
        if mmap:
            return cls(np.memmap(path, numpy_dtype, mode="r", shape=(rows, dim)), scale)
        return cls(np.fromfile(path, numpy_dtype).reshape(rows, dim), scale)

    def __len__(self) -> int:
        return self.stored.shape[0]

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self.stored.shape[1]

    @property
    def plain(self) -> bool:
        """Whether the stored numbers are the values, so that reading copies nothing."""
        return self.stored.dtype == np.float32 and self._scale is None

    def decoded(self) -> "Vectors":
        """The same as plain fp32, kept in memory from the first call on; itself if large."""
        if self.plain or self.stored.size > KEPT_VALUES:
            return self
        if self._decoded is None:
            self._decoded = Vectors(self.read(0, len(self)))
        return self._decoded

    def read(
        self, start: int, stop: int, *, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Rows `start` to `stop` as values, `[stop - start, dim]`; a view if stored as fp32.

        Args:
            out: Where the values go unless they are a view.
        """
        return decode(self._array[start:stop], self._scale, out=out)

    def best_rows(
        self, query: NDArray[np.float32], start: int, stop: int, *, k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and rows of the `k` largest inner products from `start` to `stop`, `[k]` each."""
        weights = query if self._scale is None else query * self._scale
        scores, rows = best_rows(self._array[start:stop], weights, k=k)
        return scores, np.where(rows < 0, rows, rows + start) if start else rows

    def take(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """The given rows as values, `[rows, dim]`."""
        return decode(self._array[rows], self._scale)

    def blocks(self, size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """First row and values of each run of at most `size` rows."""
        for start in range(0, len(self), size):
            yield start, self.read(start, min(start + size, len(self)))


def encode(
    values: NDArray[np.float32], dtype: VectorDtype, scale: NDArray[np.float32] | None
) -> NDArray[np.generic]:
    """Values as they are stored, `[rows, dim]`."""
    if scale is not None:
        values = np.clip(np.rint(values / scale), -127, 127)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is found by that
        stored = values.astype(np.dtype(NUMPY_DTYPES[dtype]).newbyteorder("<"))
    return np.ascontiguousarray(stored)
