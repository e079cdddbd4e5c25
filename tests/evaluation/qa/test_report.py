import json

import pytest
from rich.console import Console

from ragkit.errors import DataError
from ragkit.evaluation.qa.evaluate import evaluate_answers
from ragkit.evaluation.qa.predictions import match_predictions, read_predictions
from ragkit.evaluation.qa.questions import Question
from ragkit.evaluation.qa.report import RunFacts, make_report, save_report, to_json, to_table

QUESTIONS = [Question(f"q{i}", "who?", (f"name {i}",), (f"p{i}",)) for i in range(5)]
ANSWERS = ["name 0", "name", "", "name 3", "other"]
FOUND = [["p0", "p1", "p2"], ["p0", "p1", "p3"], [], ["p4"], ["p4", "p1", "p0"]]
FACTS = RunFacts(
    split="squad11/dev",
    corpus_date="2016-06-16",
    k=3,
    mode="token-bayes",
    template_hash="0123456789abcdef",
    num_shots=5,
    cuts={"passages": 2},
)


@pytest.fixture
def report():
    return evaluate_answers(QUESTIONS, ANSWERS, FOUND, facts=FACTS, seed=7)


def test_json_has_the_keys_that_scripts_rely_on(report):
    read = json.loads(json.dumps(to_json(report)))

    assert list(read) == ["schema", "rules", "metrics", "counts", "intervals", "run"]
    assert list(read["metrics"]["em"]) == ["mean", "low", "high", "questions"]
    assert read["metrics"]["em"]["mean"] == report.metrics["em"].mean == 0.4
    assert read["counts"]["questions"] == 5
    assert read["intervals"]["seed"] == 7


def test_json_says_how_the_answers_came_about(report):
    assert to_json(report)["run"] == {
        "split": "squad11/dev",
        "corpus_date": "2016-06-16",
        "k": 3,
        "mode": "token-bayes",
        "template_hash": "0123456789abcdef",
        "num_shots": 5,
        "cuts": {"passages": 2},
    }


def test_the_table_is_in_points_of_a_hundred(report):
    console = Console(width=70, color_system=None)

    with console.capture() as capture:
        console.print(to_table(report, title="closed book"))

    rows = [line.split() for line in capture.get().splitlines()]
    shown = {row[1]: row[3] for row in rows if len(row) > 4}
    assert shown["em"] == "40.0"
    assert shown["recall@1"] == "40.0"
    assert shown["nothing_retrieved"] == "1"
    assert "closed book" in capture.get()


def test_saved_answers_can_be_scored_anew(report, tmp_path):
    save_report(report, tmp_path / "run")

    saved = match_predictions(QUESTIONS, read_predictions(tmp_path / "run" / "answers.jsonl"))
    again = evaluate_answers(
        QUESTIONS,
        [each.answer for each in saved],
        [each.retrieved_ids for each in saved],
        facts=FACTS,
        seed=7,
    )

    assert again == report
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == to_json(report)


def test_a_report_of_nothing_is_refused():
    with pytest.raises(DataError, match="no answer to evaluate"):
        make_report([], rules="squad", counts={}, seed=0)
