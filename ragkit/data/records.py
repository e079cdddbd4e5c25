"""Rows of JSON lines, CSV, TSV, DPR and MS MARCO files."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from ragkit.data.fields import RowMapper, keep_invalid
from ragkit.data.formats import RecordFormat
from ragkit.data.options import ReadOptions
from ragkit.data.rejects import Rejects
from ragkit.data.streams import Line, as_utf8, read_lines
from ragkit.data.text import decode
from ragkit.errors import DataError
from ragkit.types import Document

_HEADERLESS = {1: ("text",), 2: ("id", "text"), 3: ("id", "text", "title")}
"""Names of the columns of a table without a header, by their number: the order of DPR."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One file that is being read.

    Args:
        name: The file in messages and sources.
        label: Stands in the ids of rows that have none: `label:line`.
    """

    name: str
    label: str
    options: ReadOptions
    rejects: Rejects

    @property
    def max_line_bytes(self) -> int:
        """Longest line: JSON may write a byte as six, and metadata comes on top."""
        return 6 * self.options.max_doc_bytes + 16_000_000


def read_jsonl(stream: BinaryIO, reading: Reading) -> Iterator[Document]:
    """The documents of a file with one JSON object per line.

    Raises:
        DataError: The file is one JSON array.
    """
    mapper = RowMapper(reading.options, reading.rejects)
    for line in read_lines(as_utf8(stream), max_bytes=reading.max_line_bytes):
        source = f"{reading.name}:{line.number}"
        row = _parse(line, source, reading) if line.data.strip() else None
        if row is None:
            continue
        default_id = f"{reading.label}:{line.number}"
        document = mapper.document(row, source=source, default_id=default_id)
        if document is not None:
            yield document


def _parse(line: Line, source: str, reading: Reading) -> dict[str, Any] | None:
    """The object on the line, or `None` if it was refused."""
    if line.too_long:
        reason = f"a line of more than {reading.max_line_bytes} bytes"
        reading.rejects.refuse(source, reason, code="too_large")
        return None
    text, valid = decode(line.data)
    if not valid and not keep_invalid(source, options=reading.options, rejects=reading.rejects):
        return None
    try:
        row = json.loads(text.rstrip(), parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        if line.number == 1 and text.strip() == "[":
            raise _is_array(reading.name) from error
        reason = f"not a JSON object at byte {line.offset}: {error}"
        reading.rejects.refuse(source, reason, code="malformed")
        return None
    if isinstance(row, dict):
        return row
    if line.number == 1 and isinstance(row, list) and row:
        raise _is_array(reading.name)
    reason = f"expected a JSON object at byte {line.offset}, found {type(row).__name__}"
    reading.rejects.refuse(source, reason, code="malformed")
    return None


def _is_array(name: str) -> DataError:
    return DataError(
        f"{name}: expected one JSON object per line, found one array: convert it with "
        f"`jq -c '.[]' {name} > {name}l`"
    )


def read_table(stream: BinaryIO, reading: Reading, *, kind: RecordFormat) -> Iterator[Document]:
    """The documents of a CSV, TSV, DPR or MS MARCO file.

    Raises:
        DataError: There is no text column, or a quoted field never ends.
    """
    rows = _Rows(stream, reading, kind=kind)
    mapper = RowMapper(reading.options, reading.rejects)
    columns: tuple[str, ...] = ()
    for cells in rows:
        if not columns:
            headed = reading.options.header and kind != "msmarco"
            columns = _columns(cells, reading, headed=headed)
            mapper.check_columns(columns, name=reading.name)
            if headed:
                continue
        document = _document(cells, columns, rows, mapper)
        if document is not None:
            yield document


def _columns(cells: list[str], reading: Reading, *, headed: bool) -> tuple[str, ...]:
    if not headed:
        options = reading.options
        if options.id_field or options.text_field or options.title_field or options.meta_fields:
            return tuple(str(number) for number in range(1, len(cells) + 1))
        rest = tuple(str(number) for number in range(4, len(cells) + 1))
        return _HEADERLESS.get(len(cells), _HEADERLESS[3] + rest)
    columns = tuple(cell.strip() for cell in cells)
    if len(set(columns)) < len(columns):
        twice = next(column for column in columns if columns.count(column) > 1)
        raise DataError(f"{reading.name}: two columns are named {twice!r}: rename one of them")
    return columns


def _document(
    cells: list[str], columns: tuple[str, ...], rows: "_Rows", mapper: RowMapper
) -> Document | None:
    reading, source = rows.reading, f"{rows.reading.name}:{rows.number}"
    if len(cells) != len(columns):
        reason = f"expected {len(columns)} fields at byte {rows.offset}, found {len(cells)}"
        reading.rejects.refuse(source, reason, code="malformed")
        return None
    if not rows.valid and not keep_invalid(
        source, options=reading.options, rejects=reading.rejects
    ):
        return None
    row = dict(zip(columns, cells, strict=True))
    return mapper.document(row, source=source, default_id=f"{reading.label}:{rows.number}")


class _Rows:
    """The rows of a table; `number`, `offset` and `valid` tell of the latest one."""

    def __init__(self, stream: BinaryIO, reading: Reading, *, kind: RecordFormat) -> None:
        self.reading = reading
        self.number, self.offset, self.valid = 0, 0, True
        self._lines = read_lines(as_utf8(stream), max_bytes=reading.max_line_bytes)
        self._fresh, self._ended = True, False
        # The limit of the csv module is one number for the process: it is raised, never lowered.
        csv.field_size_limit(max(csv.field_size_limit(), reading.max_line_bytes))
        self._reader = csv.reader(
            self._decoded(),
            delimiter="," if kind == "csv" else "\t",
            quoting=csv.QUOTE_NONE if kind == "msmarco" else csv.QUOTE_MINIMAL,
            strict=True,
        )

    def __iter__(self) -> Iterator[list[str]]:
        while True:
            self._fresh, self.valid = True, True
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._refuse(error)
                continue
            if cells:
                yield cells

    def _decoded(self) -> Iterator[str]:
        for line in self._lines:
            if self._fresh:
                self.number, self.offset, self._fresh = line.number, line.offset, False
            if line.too_long:
                raise DataError(
                    f"{self.reading.name}:{line.number} (byte {line.offset}): a line of more than "
                    f"{self.reading.max_line_bytes} bytes: raise --max-doc-mb if this is a table"
                )
            text, valid = decode(line.data)
            self.valid = self.valid and valid
            yield text
        self._ended = True

    def _refuse(self, error: csv.Error) -> None:
        if self._ended or "field limit" in str(error):
            raise DataError(
                f"{self.reading.name}:{self.number} (byte {self.offset}): a quoted field starts in "
                f"this row and never ends ({error}): double the quotes inside it, or use --format "
                "msmarco for a file that quotes nothing"
            ) from error
        self.reading.rejects.refuse(
            f"{self.reading.name}:{self.number}",
            f"not a row of the table at byte {self.offset}: {error}",
            code="malformed",
        )
