"""Questions with their gold answers: read from JSON lines, chosen by id, sampled evenly."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import xxhash

from ragkit.config import config
from ragkit.data.streams import as_utf8, open_stream
from ragkit.errors import ConfigError, DataError
from ragkit.storage import durable_file

COMMENT = "#"
"""What begins a line of an id file that names no question."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question with the answers that are right.

    Args:
        answers: One or more, none of them blank.
        passage_ids: The passages that hold the answer; none if unknown.
        group: What a sample is spread over, such as the article.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    passage_ids: tuple[str, ...] = ()
    group: str = ""


@config
class QuestionFields:
    """Where a row keeps what; of several keys the first that the row has."""

    id: tuple[str, ...] = ("id",)
    """A row without one is called by the number of its line."""
    text: tuple[str, ...] = ("question",)
    answers: tuple[str, ...] = ("all_answers", "answers", "golden_answers", "answer")
    """A text or a list of texts."""
    passage_ids: tuple[str, ...] = ("passage_ids", "passage_id")
    """An id or a list of ids; a row may lack it."""
    group: tuple[str, ...] = ("title",)
    """A row may lack it."""


DEFAULT_FIELDS = QuestionFields()


def read_questions(
    path: Path, *, fields: QuestionFields = DEFAULT_FIELDS, limit: int | None = None
) -> list[Question]:
    """The questions of a file of JSON lines, compressed or not, in its order.

    Args:
        limit: Most questions to read; `None` reads all.

    Raises:
        ConfigError: `limit` is below 1.
        DataError: The file cannot be read or holds no question, a row has no question or no gold
            answer, or an id comes twice.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be 1 or more, got {limit}: leave it out to read all")
    questions: dict[str, Question] = {}
    for number, row in islice(read_objects(path), limit):
        question = _question(row, fields, number=number, place=f"{path}:{number}")
        if question.id in questions:
            raise DataError(f"{path}:{number}: id {question.id!r} came before: make ids unique")
        questions[question.id] = question
    if not questions:
        raise DataError(f"{path} holds no question: expected JSON lines with question and answers")
    return list(questions.values())


def read_objects(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Number and content of each line of `path` that is not blank.

    Raises:
        DataError: The file cannot be read, or a line is no JSON object.
    """
    with open_stream(path) as stream:
        for number, line in enumerate(as_utf8(stream), start=1):
            if line.strip():
                yield number, _parse(line, place=f"{path}:{number}")


def sample_questions(questions: Sequence[Question], size: int, *, seed: int) -> list[Question]:
    """`size` of the questions, in their order, spread over the groups as evenly as these allow.

    Groups give equally many, except that a small one gives all it has, and that of what cannot be
    divided the largest groups give one more. Which ones is decided by a hash of seed and id: the
    same in any order of the file and on any machine.

    Raises:
        ConfigError: There are fewer questions, or `size` is below 1.
    """
    if not 1 <= size <= len(questions):
        raise ConfigError(
            f"size must be 1 to {len(questions)}, the questions there are, got {size}"
        )
    groups: dict[str, list[str]] = defaultdict(list)
    for question in questions:
        groups[question.group].append(question.id)
    chosen: set[str] = set()
    smallest_first = sorted(groups, key=lambda group: (len(groups[group]), group))
    for place, group in enumerate(smallest_first):
        share = (size - len(chosen)) // (len(groups) - place)
        chosen.update(sorted(groups[group], key=lambda each: _draw(seed, each))[:share])
    return [question for question in questions if question.id in chosen]


def select_questions(questions: Iterable[Question], ids: Sequence[str]) -> list[Question]:
    """The questions with these ids, in the order of the ids.

    Raises:
        DataError: There is none with one of the ids.
    """
    by_id = {question.id: question for question in questions}
    if missing := [each for each in ids if each not in by_id]:
        raise DataError(
            f"{len(missing)} of {len(ids)} ids are not among the {len(by_id)} questions, the first "
            f"is {missing[0]!r}: give the ids and the questions of the same set"
        )
    return [by_id[each] for each in ids]


def read_ids(path: Path) -> list[str]:
    """The ids of a file, one a line; blank lines and those that begin with `#` are passed over.

    Raises:
        DataError: The file cannot be read or holds no id.
    """
    with open_stream(path) as stream:
        lines = [line.decode("utf-8", "replace").strip() for line in as_utf8(stream)]
    if ids := [line for line in lines if line and not line.startswith(COMMENT)]:
        return ids
    raise DataError(f"{path} holds no id: expected one a line")


def write_ids(path: Path, ids: Iterable[str], *, comment: str) -> None:
    """Write one id a line below the comment.

    Raises:
        StorageError: The disk is full, read-only or failing.
    """
    with durable_file(path) as file:
        file.write("".join(f"{line}\n" for line in (f"{COMMENT} {comment}", *ids)).encode())


def _draw(seed: int, question_id: str) -> tuple[int, str]:
    return xxhash.xxh3_64_intdigest(f"{seed}:{question_id}".encode()), question_id


def _parse(line: bytes, *, place: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error}): expected one object a line") from error
    if not isinstance(row, dict):
        raise DataError(f"{place}: expected a JSON object, found {line[:80]!r}")
    return row


def _question(
    row: Mapping[str, Any], fields: QuestionFields, *, number: int, place: str
) -> Question:
    text = _first(row, fields.text)
    if not isinstance(text, str) or not text.strip():
        raise DataError(
            f"{place}: expected a text in {' or '.join(fields.text)}, found {text!r} among the "
            f"keys {', '.join(row)}: name the key in the fields"
        )
    answers = [each for each in _texts(_first(row, fields.answers), place=place) if each.strip()]
    if not answers:
        raise DataError(
            f"{place}: no gold answer in {' or '.join(fields.answers)}: leave out what has no "
            "answer; the labels of a hidden test set are known to its server alone"
        )
    return Question(
        id=str(_first(row, fields.id, default=number)),
        text=text,
        answers=tuple(dict.fromkeys(answers)),
        passage_ids=tuple(_texts(_first(row, fields.passage_ids, default=[]), place=place)),
        group=str(_first(row, fields.group, default="")),
    )


def _first(row: Mapping[str, Any], keys: Sequence[str], *, default: object = None) -> Any:  # noqa: ANN401 - JSON
    return next((row[key] for key in keys if row.get(key) is not None), default)


def _texts(value: object, *, place: str) -> list[str]:
    texts = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"{place}: expected a text or a list of texts, found {value!r}: read multiple choice "
            "with ragkit.evaluation.choice_items"
        )
    return texts
