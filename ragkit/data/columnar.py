"""Rows of Parquet, Arrow and Feather files, one batch at a time."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ragkit.data.fields import ID_FIELDS, TEXT_FIELDS, TITLE_FIELDS, RowMapper, keep_invalid
from ragkit.data.formats import RecordFormat
from ragkit.data.options import ReadOptions
from ragkit.data.records import Reading
from ragkit.data.text import decode
from ragkit.errors import DataError
from ragkit.types import Document

ROWS_PER_BATCH = 1_000


def read_columnar(path: Path, reading: Reading, *, kind: RecordFormat) -> Iterator[Document]:
    """The documents of a Parquet file (`parquet`) or an Arrow IPC file or stream (`arrow`).

    Raises:
        DataError: The file is broken, or no column is the text.
    """
    batches = _parquet(path, reading.options) if kind == "parquet" else _arrow(path)
    yield from read_batches(check_whole(batches, f"{path}: not a complete {kind} file"), reading)


def check_whole(batches: Iterator[pa.RecordBatch], fault: str) -> Iterator[pa.RecordBatch]:
    """The batches.

    Raises:
        DataError: The next one cannot be read; the message starts with `fault`.
    """
    num_read = 0
    try:
        for batch in batches:
            yield batch
            num_read += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{fault} ({error}), after {num_read} rows: check its permissions, or write or fetch "
            "it again"
        ) from error


def read_batches(batches: Iterable[pa.RecordBatch], reading: Reading) -> Iterator[Document]:
    """The documents of record batches that all have the same columns."""
    mapper = RowMapper(reading.options, reading.rejects)
    number = 0
    for batch in batches:
        if number == 0:
            mapper.check_columns(batch.schema.names, name=reading.name)
        for row, valid in _rows(batch):
            number += 1
            source = f"{reading.name}:{number}"
            if not valid and not keep_invalid(
                source, options=reading.options, rejects=reading.rejects
            ):
                continue
            default_id = f"{reading.label}:{number}"
            document = mapper.document(row, source=source, default_id=default_id)
            if document is not None:
                yield document


def _parquet(path: Path, options: ReadOptions) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        columns = wanted_columns(file.schema_arrow.names, options)
        yield from file.iter_batches(batch_size=ROWS_PER_BATCH, columns=columns)


def wanted_columns(columns: list[str], options: ReadOptions) -> list[str]:
    """Those of `columns` that documents are made of."""
    if options.meta_fields is None:
        return columns
    named = {options.id_field, options.text_field, options.title_field, "section"}
    wanted = {*named, *options.meta_fields, *ID_FIELDS, *TEXT_FIELDS, *TITLE_FIELDS}
    return [column for column in columns if column in wanted]


def _arrow(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as file:
        try:
            reader = pa.ipc.open_file(file)
        except pa.ArrowInvalid:
            file.seek(0)
            stream = pa.ipc.open_stream(file)  # what `datasets` keeps in its cache
            yield from (part for batch in stream for part in _sliced(batch))
            return
        for number in range(reader.num_record_batches):
            yield from _sliced(reader.get_batch(number))


def _sliced(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for start in range(0, batch.num_rows, ROWS_PER_BATCH):
        yield batch.slice(start, ROWS_PER_BATCH)


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[dict[str, Any], bool]]:
    """Each row and whether its strings are UTF-8, which Arrow does not check."""
    try:
        yield from ((row, True) for row in batch.to_pylist())
    except UnicodeDecodeError:
        for number in range(batch.num_rows):
            yield _decoded_row(batch.slice(number, 1))


def _decoded_row(row: pa.RecordBatch) -> tuple[dict[str, Any], bool]:
    try:
        return row.to_pylist()[0], True
    except UnicodeDecodeError:
        return {name: _cell(row.column(name)) for name in row.schema.names}, False


def _cell(column: "pa.Array[Any]") -> object:
    """The one value of `column`; a nested one that holds broken text is left out."""
    try:
        return column[0].as_py()
    except UnicodeDecodeError:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            return decode(column.cast(pa.large_binary())[0].as_py())[0]
        return None
