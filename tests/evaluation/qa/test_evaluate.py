import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import ConfigError, DataError
from ragkit.evaluation.qa.evaluate import compare_reports, evaluate_answers
from ragkit.evaluation.qa.questions import Question
from ragkit.evaluation.qa.rules import REGEX_RULES, find_rules

QUESTIONS = [
    Question("q1", "who?", ("The Beatles!", "Fab Four"), ("p1",)),
    Question("q2", "where?", ("New York",), ("p2", "p3")),
    Question("q3", "when?", ("1955",)),
]
ANSWERS = ["beatles", "York City", "in 1955"]


def test_an_answer_counts_by_its_best_gold_answer():
    report = evaluate_answers(QUESTIONS, ANSWERS)

    assert [dict(each.scores) for each in report.predictions] == [
        {"em": 1, "f1": 1, "rouge_l": 0, "answer_recall": 0},
        {"em": 0, "f1": 0.5, "rouge_l": 0.5, "answer_recall": 0},
        {"em": 0, "f1": pytest.approx(2 / 3), "rouge_l": pytest.approx(2 / 3), "answer_recall": 1},
    ]
    assert report.metrics["em"].mean == pytest.approx(1 / 3)


@given(right=st.lists(st.booleans(), min_size=1, max_size=12))
def test_wrong_answers_count_wherever_they_stand(right):
    questions = [Question(str(i), "who?", ("x",)) for i in range(len(right))]
    answers = ["x" if each else "y" for each in right]

    report = evaluate_answers(questions, answers)

    # A running mean that takes 0 for "nothing yet" would forget those that lead.
    assert report.metrics["em"].mean == pytest.approx(sum(right) / len(right))


def test_recall_is_over_the_questions_whose_passages_are_known():
    found = [["p7", "p1"], ["p2", "p9"], ["p4"]]

    report = evaluate_answers(QUESTIONS, ANSWERS, found)

    assert {name: each.mean for name, each in report.metrics.items() if "@" in name} == {
        "recall@1": 0.25,
        "recall@2": 0.75,
    }
    assert report.metrics["recall@1"].questions == 2
    assert report.counts["unknown_passages"] == 1


def test_empty_answers_and_searches_are_counted():
    report = evaluate_answers(QUESTIONS, [" ", "x", "y"], [[], ["p2"], []])

    assert report.counts == {
        "questions": 3,
        "empty_answers": 1,
        "nothing_retrieved": 2,
        "unknown_passages": 1,
    }


def test_closed_book_has_no_recall():
    report = evaluate_answers(QUESTIONS, ANSWERS)

    assert not any("@" in name for name in report.metrics)
    assert all(each.retrieved_ids is None for each in report.predictions)


def test_depths_can_be_chosen():
    found = [["p7", "p1", "p8", "p9"]] * 3

    report = evaluate_answers(QUESTIONS, ANSWERS, found, depths=(4, 2))

    assert [name for name in report.metrics if "@" in name] == ["recall@2", "recall@4"]


def test_equal_seeds_give_equal_intervals():
    reports = [evaluate_answers(QUESTIONS, ANSWERS, seed=seed) for seed in (1, 1, 2)]

    assert reports[0].metrics == reports[1].metrics
    assert reports[0].seed != reports[2].seed


def test_regular_expressions_are_rules_of_their_own():
    questions = [Question("q", "when?", (r"(19)?55",))]

    report = evaluate_answers(questions, ["1955"], rules=REGEX_RULES)

    assert {name: each.mean for name, each in report.metrics.items()} == {
        "em": 1,
        "answer_recall": 1,
    }


def test_rules_are_found_by_name():
    assert find_rules("regex") is REGEX_RULES
    with pytest.raises(ConfigError, match="expected one of squad, regex, lm-eval/nq_open"):
        find_rules("lm-eval/other")


@pytest.mark.parametrize(
    ("answers", "found"), [(ANSWERS[:2], None), (ANSWERS, [["p1"]]), ([], None)]
)
def test_what_is_out_of_step_is_refused(answers, found):
    with pytest.raises(DataError, match="keep them in step"):
        evaluate_answers(QUESTIONS, answers, found)


def test_no_question_is_refused():
    with pytest.raises(DataError, match="at least one question"):
        evaluate_answers([], [])


@pytest.mark.parametrize("depth", [0, 3])
def test_a_depth_that_was_not_retrieved_is_refused(depth):
    with pytest.raises(ConfigError, match="found at most 2: retrieve more"):
        evaluate_answers(QUESTIONS, ANSWERS, [["p1", "p2"]] * 3, depths=(depth,))


def test_a_gain_is_the_mean_of_the_differences():
    base = evaluate_answers(QUESTIONS, ["", "New York", ""])
    report = evaluate_answers(QUESTIONS[::-1], ANSWERS[::-1])

    gains = compare_reports(report, base)

    assert gains["em"].mean == pytest.approx(0)
    assert gains["em"].low < 0 < gains["em"].high
    assert gains["f1"].mean == pytest.approx((1 - 0.5 + 2 / 3) / 3)


def test_a_report_gains_nothing_over_itself():
    report = evaluate_answers(QUESTIONS, ANSWERS, [["p1"]] * 3)

    gains = compare_reports(report, report)

    assert {(each.mean, each.low, each.high) for each in gains.values()} == {(0, 0, 0)}
    assert gains["recall@1"].questions == 2


def test_reports_of_other_questions_do_not_compare():
    report = evaluate_answers(QUESTIONS, ANSWERS)

    with pytest.raises(DataError, match="answer the same questions in both"):
        compare_reports(report, evaluate_answers(QUESTIONS[:2], ANSWERS[:2]))


def test_scoring_loads_no_model_library():
    code = (
        "import ragkit.evaluation.qa, sys; "
        "print({'torch', 'transformers', 'nltk', 'lm_eval'} & set(sys.modules))"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (ran.returncode, ran.stdout) == (0, "set()\n")


def test_reports_of_other_rules_are_not_compared():
    ours = evaluate_answers(QUESTIONS, ANSWERS)

    with pytest.raises(DataError, match="same questions and rules"):
        compare_reports(ours, evaluate_answers(QUESTIONS, ANSWERS, rules=find_rules("regex")))


def test_an_id_that_comes_twice_is_refused():
    with pytest.raises(DataError, match="keep one question of each id"):
        evaluate_answers([*QUESTIONS, QUESTIONS[0]], [*ANSWERS, ANSWERS[0]])
