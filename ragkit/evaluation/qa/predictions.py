"""Answers in a file, one JSON object a line: written with their scores, read to score them anew."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragkit.errors import DataError
from ragkit.evaluation.qa.questions import Question, read_objects
from ragkit.storage import durable_file


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was answered to one question.

    Args:
        id: The question's id.
        answer: As it was generated.
        retrieved_ids: What was retrieved, best first; `None` if nothing was searched for.
        scores: By metric; a metric that does not apply to the question is missing.
    """

    id: str
    answer: str
    retrieved_ids: tuple[str, ...] | None = None
    scores: Mapping[str, float] = field(default_factory=dict)


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write one line per prediction, its scores beside it.

    Raises:
        StorageError: The disk is full, read-only or failing.
    """
    with durable_file(path) as file:
        for each in predictions:
            found = {} if each.retrieved_ids is None else {"retrieved_ids": each.retrieved_ids}
            line = {"id": each.id, "answer": each.answer, **found, "scores": dict(each.scores)}
            file.write(json.dumps(line, allow_nan=False).encode() + b"\n")


def read_predictions(path: Path) -> list[Prediction]:
    """The predictions of a file, without their scores.

    Raises:
        DataError: The file cannot be read, a line has no `id` or no `answer`, or an id comes twice.
    """
    predictions: dict[str, Prediction] = {}
    for number, row in read_objects(path):
        prediction = _prediction(row, place=f"{path}:{number}")
        if prediction.id in predictions:
            raise DataError(f"{path}:{number}: id {prediction.id!r} came before: keep one answer")
        predictions[prediction.id] = prediction
    return list(predictions.values())


def match_predictions(
    questions: Sequence[Question], predictions: Iterable[Prediction]
) -> list[Prediction]:
    """The prediction of each question, in the order of the questions.

    Raises:
        DataError: A question has none.
    """
    by_id = {prediction.id: prediction for prediction in predictions}
    if missing := [question.id for question in questions if question.id not in by_id]:
        raise DataError(
            f"{len(missing)} of {len(questions)} questions have no answer, the first is "
            f"{missing[0]!r}: answer all of them, or choose those that are answered"
        )
    return [by_id[question.id] for question in questions]


def _prediction(row: Mapping[str, Any], *, place: str) -> Prediction:
    question_id, answer, found = row.get("id"), row.get("answer"), row.get("retrieved_ids")
    ids = found is None or (isinstance(found, list) and all(isinstance(x, str) for x in found))
    if not isinstance(question_id, str | int) or not isinstance(answer, str) or not ids:
        raise DataError(
            f"{place}: expected an `id`, an `answer` that is a text and perhaps a list of "
            f"`retrieved_ids`, found the keys {', '.join(row)}"
        )
    return Prediction(str(question_id), answer, None if found is None else tuple(found))
