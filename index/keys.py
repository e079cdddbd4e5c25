"""From a passage's id to its row: sorted hashes, looked up by bisection in a mapped file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from ragkit.errors import IndexCorruptError
from ragkit.index.passages import Passages
from ragkit.storage import HashingFile

SCHEMA = pa.schema([("key", pa.uint64()), ("row", pa.int64())])


def write_keys(file: HashingFile, passages: Passages) -> int:
    """Write the keys of all passages; the number of rows."""
    keys = np.fromiter(
        (
            xxhash.xxh3_64_intdigest(name.encode())
            for batch in passages.scan(["id"])
            for name in batch.column("id").to_pylist()
        ),
        np.uint64,
        len(passages),
    )
    order = np.argsort(keys, kind="stable")
    table = pa.table({"key": keys[order], "row": order.astype(np.int64)}, schema=SCHEMA)
    with pa.ipc.new_file(file, SCHEMA) as writer:
        writer.write_table(table.combine_chunks(), max_chunksize=max(1, len(keys)))
    return len(keys)


class Keys:
    """Finds rows by passage id."""

    def __init__(self, keys: NDArray[np.uint64], rows: NDArray[np.int64]) -> None:
        self._keys, self._rows = keys, rows

    @classmethod
    def open(cls, path: Path, *, mmap: bool = True) -> "Keys":
        """The keys at `path`.

        Raises:
            IndexCorruptError: The file is missing or no such Arrow file.
        """
        try:
            source = pa.memory_map(str(path)) if mmap else pa.OSFile(str(path))
            batch = pa.ipc.open_file(source).get_batch(0)
            columns = [_view(batch.column(name)) for name in SCHEMA.names]
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise IndexCorruptError(
                f"{path} is no readable Arrow file ({error}): rebuild"
            ) from error
        return cls(*columns)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, ids: Sequence[str], passages: Passages) -> NDArray[np.int64]:
        """The row of each id, -1 where there is none, `[ids]`."""
        wanted = np.array(
            [xxhash.xxh3_64_intdigest(name.encode(errors="replace")) for name in ids], np.uint64
        )
        first = np.searchsorted(self._keys, wanted, side="left")
        last = np.searchsorted(self._keys, wanted, side="right")
        return np.array(
            [
                self._match(name, self._rows[start:stop], passages)
                for name, start, stop in zip(ids, first, last, strict=True)
            ],
            np.int64,
        )

    @staticmethod
    def _match(name: str, candidates: NDArray[np.int64], passages: Passages) -> int:
        """The candidate whose id really is `name`: two ids may share a hash."""
        if not len(candidates):
            return -1
        ids = passages.values("id", candidates.tolist())
        return next(
            (int(row) for row, found in zip(candidates, ids, strict=True) if found == name), -1
        )


def _view(column: pa.Array) -> NDArray[Any]:
    """The numbers of a column in place; `to_numpy` would import pandas, which takes 0.1 s."""
    dtype = np.dtype(column.type.to_pandas_dtype())
    return np.frombuffer(column.buffers()[1], dtype, len(column))
