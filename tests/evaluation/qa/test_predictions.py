import json

import pytest

from ragkit.errors import DataError
from ragkit.evaluation.qa.predictions import (
    Prediction,
    match_predictions,
    read_predictions,
    write_predictions,
)
from ragkit.evaluation.qa.questions import Question

PREDICTIONS = [
    Prediction("q1", "an \u00e9t\u00e9\n", ("p3", "p1"), {"em": 1.0}),
    Prediction("q2", "", (), {"em": 0.0}),
    Prediction("q3", "nothing was searched"),
]


def test_predictions_read_back_without_their_scores(tmp_path):
    write_predictions(tmp_path / "answers.jsonl", PREDICTIONS)

    found = read_predictions(tmp_path / "answers.jsonl")

    assert [(each.id, each.answer, each.retrieved_ids) for each in found] == [
        (each.id, each.answer, each.retrieved_ids) for each in PREDICTIONS
    ]
    assert all(each.scores == {} for each in found)


def test_a_line_shows_the_scores(tmp_path):
    write_predictions(tmp_path / "answers.jsonl", PREDICTIONS)

    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]

    assert lines[0]["scores"] == {"em": 1.0}
    assert "retrieved_ids" not in lines[2]


def test_predictions_are_matched_by_id_whatever_their_order():
    questions = [Question(each, "who?", ("x",)) for each in ("q3", "q1")]

    assert match_predictions(questions, PREDICTIONS) == [PREDICTIONS[2], PREDICTIONS[0]]


def test_a_question_without_an_answer_is_named():
    with pytest.raises(DataError, match="the first is 'q9': answer all of them"):
        match_predictions([Question("q9", "who?", ("x",))], PREDICTIONS)


@pytest.mark.parametrize(
    ("lines", "hint"),
    [
        (['{"id": "q", "answer": 3}'], ":1: expected an `id`"),
        (['{"answer": "x"}'], "found the keys answer"),
        (['{"id": "q", "answer": "x", "retrieved_ids": "p1"}'], "perhaps a list"),
        (['{"id": "q", "answer": "x"}'] * 2, ":2: id 'q' came before"),
    ],
)
def test_a_malformed_line_is_refused(tmp_path, lines, hint):
    (tmp_path / "answers.jsonl").write_text("\n".join(lines))

    with pytest.raises(DataError, match=hint):
        read_predictions(tmp_path / "answers.jsonl")
