"""Passages as an Arrow file: row `i` is the passage that vector `i` embeds."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from ragkit.errors import IndexCorruptError
from ragkit.storage import HashingFile
from ragkit.types import Passage

# All record batches but the last have this many rows, so that a row's batch is a shift away.
BATCH_BITS = 16
BATCH_ROWS = 1 << BATCH_BITS
BATCH_MASK = BATCH_ROWS - 1

FEW_ROWS = 64

SCHEMA = pa.schema(
    [
        ("id", pa.large_string()),
        ("doc_id", pa.large_string()),
        ("chunk", pa.int32()),
        ("title", pa.large_string()),
        ("text", pa.large_string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("num_tokens", pa.int32()),
        ("truncated", pa.bool_()),
        ("hash", pa.binary(16)),
        ("source", pa.large_string()),
        ("meta", pa.large_string()),
    ]
)


def to_batch(passages: Sequence[Passage]) -> pa.RecordBatch:
    """The passages as rows of `SCHEMA`; `hash` is the xxh3-128 of the text."""
    columns: dict[str, list[Any]] = {
        name: [getattr(passage, name) for passage in passages]
        for name in SCHEMA.names
        if name not in ("hash", "meta")
    }
    columns["hash"] = [xxhash.xxh3_128_digest(passage.text.encode()) for passage in passages]
    columns["meta"] = [_dump(passage.meta) for passage in passages]
    return pa.RecordBatch.from_pydict(columns, schema=SCHEMA)


def write_passages(file: HashingFile, batches: Iterable[pa.RecordBatch]) -> int:
    """Write rows to an Arrow IPC file in batches of `BATCH_ROWS`; the number of rows."""
    rows = 0
    with pa.ipc.new_file(file, SCHEMA) as writer:
        for batch in _rebatch(batches):
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _rebatch(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    waiting: list[pa.RecordBatch] = []
    num_waiting = 0
    for batch in batches:
        waiting.append(batch)
        num_waiting += batch.num_rows
        while num_waiting >= BATCH_ROWS:
            whole = pa.concat_batches(waiting)
            yield whole.slice(0, BATCH_ROWS)
            waiting = [whole.slice(BATCH_ROWS)]
            num_waiting -= BATCH_ROWS
    if num_waiting:
        yield pa.concat_batches(waiting)


class Passages:
    """The passages of a segment, mapped: a column of some rows costs only those rows."""

    def __init__(self, batches: Sequence[pa.RecordBatch]) -> None:
        self._batches = batches
        self._columns: dict[str, list[pa.Array]] = {}
        self._rows = sum(batch.num_rows for batch in batches)

    @classmethod
    def open(cls, path: Path, *, mmap: bool = True) -> "Passages":
        """The passages at `path`.

        Raises:
            IndexCorruptError: The file is missing, no Arrow file, or has other columns or batches.
        """
        try:
            source = pa.memory_map(str(path)) if mmap else pa.OSFile(str(path))
            reader = pa.ipc.open_file(source)
            batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
            for batch in batches:
                batch.validate()
        except (OSError, ValueError, pa.ArrowException) as error:
            raise IndexCorruptError(
                f"{path} is no readable Arrow file ({error}): rebuild"
            ) from error
        if reader.schema.remove_metadata() != SCHEMA:
            raise IndexCorruptError(f"{path} has the columns {reader.schema}: rebuild the index")
        if any(batch.num_rows != BATCH_ROWS for batch in batches[:-1]):
            raise IndexCorruptError(f"{path} has batches of uneven size: rebuild the index")
        return cls(batches)

    def __len__(self) -> int:
        return self._rows

    def values(self, name: str, rows: Sequence[int]) -> list[Any]:
        """One column of the given rows, in that order."""
        chunks = self._chunks(name)
        if len(rows) <= FEW_ROWS:
            # For the hits of one query, gathering costs more than it saves.
            return [chunks[row >> BATCH_BITS][row & BATCH_MASK].as_py() for row in rows]
        array = np.asarray(rows, np.int64)
        batches = array >> BATCH_BITS
        order = np.argsort(batches, kind="stable")
        bounds = np.searchsorted(batches[order], np.arange(len(chunks) + 1))
        out: list[Any] = [None] * len(rows)
        for chunk, (start, stop) in zip(chunks, pairwise(bounds), strict=True):
            places = order[start:stop]
            found = _gather(chunk, array[places] & BATCH_MASK) if len(places) else []
            for place, value in zip(places.tolist(), found, strict=True):
                out[place] = value
        return out

    def passages(self, rows: NDArray[np.int64]) -> list[Passage]:
        """The given rows as records, in the order asked for."""
        names = [name for name in SCHEMA.names if name != "hash"]
        columns = {name: self.values(name, rows.tolist()) for name in names}
        columns["meta"] = [json.loads(meta) for meta in columns["meta"]]
        return [
            Passage(**dict(zip(names, row, strict=True)))
            for row in zip(*columns.values(), strict=True)
        ]

    def scan(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows in order, a record batch at a time, with only these columns."""
        for batch in self._batches:
            yield batch.select(list(columns))

    def _chunks(self, name: str) -> list[pa.Array]:
        """A column's part of each record batch."""
        if name not in self._columns:
            self._columns[name] = [batch.column(name) for batch in self._batches]
        return self._columns[name]


def _gather(chunk: pa.Array, rows: NDArray[np.int64]) -> list[Any]:
    """The values at `rows`; past pyarrow's bridges to numpy, which import pandas (0.2 s)."""
    indices = pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(rows)])
    values: list[Any] = chunk.take(indices).to_pylist()
    return values


def id_order(passages: Passages) -> NDArray[np.int64]:
    """Rows sorted by the UTF-8 bytes of their ids."""
    ids = pa.chunked_array(
        [batch.column("id") for batch in passages.scan(["id"])], pa.large_string()
    )
    return np.asarray(pc.sort_indices(ids)).astype(np.int64)


def _dump(meta: object) -> str:
    return json.dumps(meta, ensure_ascii=False, sort_keys=True, default=str)
