"""From a row of a table to a document: which field is the text, and whether it may be taken."""

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ragkit.data.options import ReadOptions
from ragkit.data.rejects import Rejects
from ragkit.data.text import clean, is_blank, size_bytes
from ragkit.errors import DataError
from ragkit.types import Document

ID_FIELDS = ("id", "_id", "docid", "doc_id", "pid")
TEXT_FIELDS = ("text", "contents", "content", "passage", "body")
TITLE_FIELDS = ("title",)
META_FIELDS = ("metadata", "meta")
"""Objects whose members are metadata themselves, as in BEIR."""

MAX_META_FIELDS = 1_000
MAX_META_BYTES = 1_000_000
MAX_META_DEPTH = 32


class _RefusedError(Exception):
    """Ends the work on a row; never leaves this module."""

    def __init__(self, reason: str, code: str) -> None:
        super().__init__(reason)
        self.reason, self.code = reason, code


def keep_invalid(source: str, *, options: ReadOptions, rejects: Rejects) -> bool:
    """Whether text that was not UTF-8 is taken, with U+FFFD for the bad bytes.

    Raises:
        DataError: `on_invalid_utf8` is `error`.
    """
    reason = "bytes that are not UTF-8"
    if options.on_invalid_utf8 == "error":
        raise DataError(f"{source}: {reason}: convert it, or use --on-invalid-utf8 replace or skip")
    if options.on_invalid_utf8 == "skip":
        rejects.refuse(source, reason, code="invalid_utf8")
        return False
    rejects.alter(source, f"{reason}, replaced by U+FFFD", code="invalid_utf8")
    return True


def take_text(text: str, source: str, *, options: ReadOptions, rejects: Rejects) -> str | None:
    """`text` cleaned, or `None` if it is blank or too large and was refused.

    Raises:
        DataError: The text is blank and `on_empty` is `error`.
    """
    text, codes = clean(text)
    for code in codes:
        rejects.alter(source, f"text holds a {code.replace('_', ' ')}, now gone", code=code)
    if is_blank(text):
        if options.on_empty == "error":
            raise DataError(f"{source}: the text is empty: fill it, or use --on-empty skip")
        rejects.refuse(source, "the text is empty", code="empty")
        return None
    if 4 * len(text) > options.max_doc_bytes and size_bytes(text) > options.max_doc_bytes:
        reason = f"text of {size_bytes(text)} bytes, at most {options.max_doc_bytes}: --max-doc-mb"
        rejects.refuse(source, reason, code="too_large")
        return None
    return text


class RowMapper:
    """Turns the rows of one file into documents and refuses those that are not fit.

    Args:
        options: Names of the fields; where empty, the well-known names are tried in order.
        rejects: Takes the rows that are refused or altered.
    """

    def __init__(self, options: ReadOptions, rejects: Rejects) -> None:
        self._options, self._rejects = options, rejects
        self._id_fields = _wanted(options.id_field, ID_FIELDS)
        self._text_fields = _wanted(options.text_field, TEXT_FIELDS)
        self._title_fields = _wanted(options.title_field, TITLE_FIELDS)

    def check_columns(self, columns: Sequence[str], *, name: str) -> None:
        """Pass if a table with these columns can have text.

        Raises:
            DataError: No column is the text, or a column that an option names is not there.
        """
        options = self._options
        named = (options.id_field, options.text_field, options.title_field)
        missing = [field for field in (*named, *(options.meta_fields or ())) if field]
        missing = [field for field in missing if field not in columns]
        if missing or _first(self._text_fields, columns) is None:
            shown = ", ".join(columns[:20])
            expected = ", ".join(missing) or f"a text column ({' or '.join(self._text_fields)})"
            raise DataError(
                f"{name}: expected {expected}, found the columns {shown}: name the text with "
                "--text-field, or use --no-header if the first row is data"
            )

    def document(self, row: Mapping[str, Any], *, source: str, default_id: str) -> Document | None:
        """The document in `row`, or `None` if it was refused.

        Raises:
            DataError: The text is blank and `on_empty` is `error`.
        """
        try:
            text_field, raw = self._text(row)
            text = take_text(raw, source, options=self._options, rejects=self._rejects)
            if text is None:
                return None
            id_field, doc_id = self._id(row)
            title_field, title = self._title(row)
            meta = self._meta(row, used={text_field, id_field, title_field})
        except _RefusedError as refused:
            self._rejects.refuse(source, refused.reason, code=refused.code)
            return None
        return Document(doc_id or default_id, text, title=title, meta=meta, source=source)

    def _text(self, row: Mapping[str, Any]) -> tuple[str, str]:
        field = _first(self._text_fields, row)
        if field is None:
            found = ", ".join(list(row)[:10]) or "none"
            expected = " or ".join(self._text_fields)
            reason = f"no field {expected}, found {found}: name the text with --text-field"
            raise _RefusedError(reason, "missing_text")
        value = row[field]
        if isinstance(value, str):
            return field, value
        code = "missing_text" if value is None else "malformed"
        raise _RefusedError(f"{field!r} must be a string, found {_kind(value)}", code)

    def _id(self, row: Mapping[str, Any]) -> tuple[str | None, str]:
        field = _first(self._id_fields, row)
        value = row[field] if field is not None else None
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return field, ""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            reason = f"{field!r} must be a string or a number, found {_kind(value)}"
            raise _RefusedError(reason, "malformed")
        return field, clean(str(value))[0].strip()

    def _title(self, row: Mapping[str, Any]) -> tuple[str | None, str]:
        field = _first(self._title_fields, row)
        value = row[field] if field is not None else None
        if value is None:
            return field, ""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise _RefusedError(f"{field!r} must be a string, found {_kind(value)}", "malformed")
        title = clean(str(value))[0].strip()
        section = row.get("section")
        if field == "title" and "text" in row and isinstance(section, str) and section.strip():
            title = f"{title}: {clean(section)[0].strip()}"  # Atlas names the section apart
        return field, title

    def _meta(self, row: Mapping[str, Any], *, used: set[str | None]) -> dict[str, Any]:
        fields = self._options.meta_fields
        kept = {k: v for k, v in row.items() if k not in used} if fields is None else {}
        for field in META_FIELDS if fields is None else ():
            if isinstance(kept.get(field), Mapping):
                kept = {**kept.pop(field), **kept}
        kept |= {field: row[field] for field in fields or () if field in row}
        if len(kept) > MAX_META_FIELDS:
            reason = f"{len(kept)} fields, at most {MAX_META_FIELDS}: choose with --meta-fields"
            raise _RefusedError(reason, "too_large")
        meta = {clean(str(key))[0]: _plain(value) for key, value in kept.items()}
        if meta and (size := len(json.dumps(meta, ensure_ascii=False))) > MAX_META_BYTES:
            reason = f"metadata of {size} characters, at most {MAX_META_BYTES}: use --meta-fields"
            raise _RefusedError(reason, "too_large")
        return meta


def _wanted(named: str, known: tuple[str, ...]) -> tuple[str, ...]:
    return (named,) if named else known


def _first(wanted: Sequence[str], found: Sequence[str] | Mapping[str, Any]) -> str | None:
    return next((field for field in wanted if field in found), None)


def _kind(value: object) -> str:
    """What JSON calls the type of `value`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    return "an object" if isinstance(value, Mapping) else "a list"


def _plain(value: object, depth: int = 0) -> Any:  # noqa: ANN401 - a JSON value
    """`value` as JSON can hold it; bytes, which are pictures as a rule, are left out."""
    if depth > MAX_META_DEPTH:
        reason = f"metadata nested deeper than {MAX_META_DEPTH}: choose with --meta-fields"
        raise _RefusedError(reason, "too_large")
    if isinstance(value, str):
        return clean(value)[0]
    if isinstance(value, Mapping):
        return {clean(str(key))[0]: _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    return _plain_scalar(value)


def _plain_scalar(value: object) -> str | int | float | bool | None:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return None if isinstance(value, bytes) else str(value)
