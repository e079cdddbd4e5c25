"""Queries and relevance judgements: BEIR's JSONL and TSV, TREC's four columns."""

import json
from collections.abc import Iterator
from pathlib import Path

from ragkit.errors import DataError

Qrels = dict[str, dict[str, int]]
"""Grade by query id and document id; a grade above 0 is relevant."""


def read_queries(path: Path) -> dict[str, str]:
    """Return the text of each query by its id, in the order of the file.

    Args:
        path: JSON lines with `_id` and `text`, as BEIR writes `queries.jsonl`.

    Raises:
        DataError: The file cannot be read or holds no query, or a line has no id, no text or an
            id that an earlier line has.
    """
    queries: dict[str, str] = {}
    for place, line in _lines(path):
        query_id, text = _parse_query(line, place=place)
        if query_id in queries:
            raise DataError(f"{place}: query id {query_id!r} came before: make the ids unique")
        queries[query_id] = text
    if not queries:
        raise DataError(f'{path} holds no query: expected lines like {{"_id": "1", "text": "..."}}')
    return queries


def read_qrels(path: Path) -> Qrels:
    """Return the grade of each judged document by query.

    Args:
        path: BEIR's `query-id corpus-id score` with tabs, the header being optional, or TREC's
            `query iteration document grade` with any white space.

    Raises:
        DataError: The file cannot be read or holds no judgement, or a line has other columns, a
            grade that is no whole number or a grade that contradicts an earlier line.
    """
    qrels: Qrels = {}
    for number, (place, line) in enumerate(_lines(path)):
        query_id, doc_id, grade = _split_judgement(line, place=place)
        if number == 0 and _is_header(line):
            continue
        grades = qrels.setdefault(query_id, {})
        if grades.setdefault(doc_id, value := _parse_grade(grade, place=place)) != value:
            raise DataError(
                f"{place}: document {doc_id!r} has grade {value} for query {query_id!r}, but "
                f"{grades[doc_id]} in an earlier line: keep one of the two"
            )
    if not qrels:
        raise DataError(f"{path} holds no judgement: expected `query-id<tab>corpus-id<tab>score`")
    return qrels


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Place and text of each line that is not blank."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}:{number}", line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}): convert it first") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _parse_query(line: str, *, place: str) -> tuple[str, str]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not JSON ({error.msg}): expected one object a line") from error
    if not isinstance(record, dict):
        raise DataError(f"{place}: expected an object with `_id` and `text`, found {line[:60]!r}")
    query_id, text = record.get("_id"), record.get("text")
    if not isinstance(query_id, str | int) or not isinstance(text, str) or not text.strip():
        raise DataError(
            f"{place}: expected `_id` and a `text` that is not blank, found "
            f"{', '.join(map(str, record)) or 'no keys'}"
        )
    return str(query_id), text


def _split_judgement(line: str, *, place: str) -> tuple[str, str, str]:
    """Query id, document id and grade; BEIR's ids may contain spaces, TREC's do not."""
    columns = line.split("\t")
    if len(columns) == 3:
        return columns[0], columns[1], columns[2]
    columns = line.split()
    if len(columns) == 4:
        return columns[0], columns[2], columns[3]
    raise DataError(
        f"{place}: expected 3 columns with tabs (query-id corpus-id score) or 4 columns "
        f"(query iteration document grade), found {line[:60]!r}"
    )


def _is_header(line: str) -> bool:
    return line.split("\t")[0] in {"query-id", "query_id", "qid"}


def _parse_grade(grade: str, *, place: str) -> int:
    try:
        return int(grade)
    except ValueError as error:
        raise DataError(f"{place}: expected a whole number as grade, found {grade!r}") from error
