"""Prompts from a file: JSON lines, or a prompt a line."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragkit.data.rejects import Rejects
from ragkit.data.streams import COMPRESSED, Line, as_utf8, open_stream, read_lines
from ragkit.data.text import decode
from ragkit.decoding.prompts import Prompt
from ragkit.errors import DataError

MAX_LINE_BYTES = 64_000_000
_JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One prompt of a file.

    Args:
        source: The file and the line, for messages.
        id: What the row calls itself, else the number of its line.
    """

    source: str
    id: str | int
    prompt: Prompt


def read_prompts(path: Path | None, *, rejects: Rejects) -> list[PromptRow]:
    """The prompts of `path`, or of stdin for `None`; rows that hold none go to `rejects`.

    A file named `*.jsonl`, compressed or not, and any whose first line begins an object, has an
    object a line with `prompt` or `messages`, and perhaps `id`. In any other file each line is a
    prompt.

    Raises:
        DataError: The file cannot be read.
    """
    name = str(path or "stdin")
    with open_stream(path) as stream:
        lines = read_lines(as_utf8(stream), max_bytes=MAX_LINE_BYTES)
        return list(_read(lines, name, rejects))


def _read(lines: Iterator[Line], name: str, rejects: Rejects) -> Iterator[PromptRow]:
    plain = Path(name).stem if Path(name).suffix in COMPRESSED else name
    as_json: bool | None = True if plain.endswith(_JSON_SUFFIXES) else None
    for line in lines:
        if not line.data.strip():
            continue
        if as_json is None:
            as_json = line.data.lstrip().startswith(b"{")
        source = f"{name}:{line.number}"
        try:
            yield _row(line, source, as_json=as_json)
        except DataError as error:
            rejects.refuse(source, str(error), code="malformed")


def _row(line: Line, source: str, *, as_json: bool) -> PromptRow:
    if line.too_long:
        raise DataError(f"a line of more than {MAX_LINE_BYTES} bytes: shorten it")
    text, is_utf8 = decode(line.data)
    if not is_utf8:
        raise DataError(
            f"not UTF-8, in the line at byte {line.offset}: convert the file with iconv"
        )
    if not as_json:
        return PromptRow(source, line.number, text.rstrip("\r\n"))
    row = _parse(text, line)
    number = row.get("id", line.number)
    if isinstance(number, bool) or not isinstance(number, str | int):
        raise DataError(f"'id' must be a string or a whole number, got {number!r}")
    return PromptRow(source, number, _prompt(row))


def _parse(text: str, line: Line) -> Mapping[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not a JSON object at byte {line.offset}: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"expected a JSON object at byte {line.offset}, found {type(row).__name__}")
    return row


def _prompt(row: Mapping[str, Any]) -> Prompt:
    given = [name for name in ("prompt", "messages") if name in row]
    if len(given) != 1:
        raise DataError(
            "a row must have either 'prompt' or 'messages', found "
            f"{' and '.join(given) or f'the keys {sorted(row)}'}"
        )
    [name] = given
    kind = str if name == "prompt" else list
    if not isinstance(row[name], kind):
        wanted = "a string" if kind is str else "a list of messages"
        raise DataError(f"{name!r} must be {wanted}, found {type(row[name]).__name__}")
    return row[name]
