"""The objects of a JSON lines file, each with its place."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragkit.data.rejects import Rejects
from ragkit.data.streams import Line, as_utf8, open_stream, read_lines
from ragkit.errors import DataError

MAX_LINE_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class JsonRow:
    """One object of a file.

    Args:
        source: The file and the line, for messages.
        number: Of the line, from 1.
    """

    source: str
    number: int
    values: Mapping[str, Any]


def read_json_rows(path: Path, *, rejects: Rejects) -> Iterator[JsonRow]:
    """The objects of a file, compressed or not; lines that hold none go to `rejects`.

    Raises:
        DataError: The file cannot be read.
    """
    with open_stream(path) as stream:
        for line in read_lines(as_utf8(stream), max_bytes=MAX_LINE_BYTES):
            if not line.data.strip():
                continue
            source = f"{path}:{line.number}"
            try:
                yield JsonRow(source, line.number, _parse(line))
            except DataError as error:
                rejects.refuse(source, str(error), code="malformed")


def _parse(line: Line) -> Mapping[str, Any]:
    if line.too_long:
        raise DataError(f"a line of more than {MAX_LINE_BYTES} bytes: shorten it")
    try:
        values = json.loads(line.data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not a JSON object in UTF-8 at byte {line.offset}: {error}") from error
    if not isinstance(values, dict):
        raise DataError(
            f"expected a JSON object at byte {line.offset}, found {type(values).__name__}"
        )
    return values
