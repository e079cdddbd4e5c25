"""Multiple-choice questions from JSON lines."""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from ragkit.data.streams import as_utf8, open_stream
from ragkit.errors import ConfigError, DataError
from ragkit.evaluation.choices import ChoiceItem

DEFAULT_CONTEXT = "Question: {question}\nAnswer:"


def read_choices(
    path: Path, *, context: str = DEFAULT_CONTEXT, limit: int | None = None
) -> list[ChoiceItem]:
    """The questions of a file, in its order.

    Args:
        path: JSON lines with `choices`, a list of texts, `answer`, the position of the right one,
            and what `context` names.
        context: What stands before each choice, with keys of a line in braces.
        limit: Most lines to read; `None` reads all.

    Raises:
        ConfigError: `context` names what a line lacks, or `limit` is below 1.
        DataError: The file cannot be read or holds no question, or a line is malformed.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be 1 or more, got {limit}: leave it out to read all")
    items = [
        _item(record, context=context, place=place)
        for place, record in islice(_records(path), limit)
    ]
    if not items:
        raise DataError(f"{path} holds no question: expected JSON lines with choices and answer")
    return items


def _records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Place and content of each line that is not blank."""
    with open_stream(path) as stream:
        for number, line in enumerate(as_utf8(stream), start=1):
            if line.strip():
                yield f"{path}:{number}", _parse(line, place=f"{path}:{number}")


def _parse(line: bytes, *, place: str) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error}): expected one object a line") from error
    choices = record.get("choices") if isinstance(record, dict) else None
    texts = isinstance(choices, list) and all(isinstance(choice, str) for choice in choices)
    if not texts or type(record.get("answer")) is not int:
        raise DataError(
            f"{place}: expected an object with `choices`, a list of texts, and `answer`, the "
            f"position of the right one, found {line[:80]!r}"
        )
    return record


def _item(record: Mapping[str, Any], *, context: str, place: str) -> ChoiceItem:
    try:
        shown = context.format_map(record)
    except (LookupError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{place}: the context {context!r} does not fit: {error!r}: name keys of the line, "
            f"{', '.join(record)}, in braces"
        ) from error
    return ChoiceItem(shown, tuple(record["choices"]), record["answer"])
