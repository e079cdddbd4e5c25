import json
from types import SimpleNamespace

import pytest

from ragkit.errors import DataError
from ragkit.evaluation.choices import ChoiceReport, evaluate_choices
from ragkit.evaluation.qa.mmlu import (
    ChoiceQuestion,
    letter_items,
    read_choice_questions,
    report_choices,
)
from tests.evaluation.models import tiny_bpe, tiny_llama

QUESTION = ChoiceQuestion("m1", " 1 + 1? ", ("one", "two", "three"), 1, "high_school_maths")
SHOT = ChoiceQuestion("m2", "2 + 1?", ("two", "three"), 1, "high_school_maths")
OTHER = ChoiceQuestion("m3", "who?", ("me", "you"), 0, "law")


def test_a_question_is_asked_as_the_harness_asks_it():
    utils = pytest.importorskip("lm_eval.utils")
    template = (
        "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nAnswer:"
    )
    row = {"question": QUESTION.text, "choices": QUESTION.choices}

    assert QUESTION.show() == utils.apply_template(template, row)


def test_the_letters_are_the_choices():
    [item] = letter_items([QUESTION], demonstrations=[QUESTION, SHOT, OTHER])

    assert item.choices == ("A", "B", "C")
    assert item.answer == 1
    assert item.context == (
        "The following are multiple choice questions (with answers) about high school maths.\n\n"
        "2 + 1?\nA. two\nB. three\nAnswer: B\n\n"
        "1 + 1?\nA. one\nB. two\nC. three\nAnswer:"
    )


def test_without_shots_of_the_subject_others_are_shown():
    [item] = letter_items([QUESTION], demonstrations=[OTHER])

    assert "who?\nA. me\nB. you\nAnswer: A\n\n" in item.context


def test_a_question_without_a_subject_has_no_line_that_names_it():
    [item] = letter_items([ChoiceQuestion("m4", "who?", ("me", "you"), 0)])

    assert item.context == "who?\nA. me\nB. you\nAnswer:"


def test_shares_of_right_choices_have_intervals():
    questions = [QUESTION, SHOT, OTHER]
    found = evaluate_choices(
        tiny_llama(max_position_embeddings=400), tiny_bpe(), letter_items(questions)
    )

    report = report_choices(found, [each.id for each in questions])

    assert report.metrics["acc"].mean == pytest.approx(found.acc)
    assert report.metrics["acc_token"].mean == pytest.approx(found.acc_token)
    assert "acc_compl" not in report.metrics
    chosen = [int(each.log_likelihoods.argmax()) for each in found.results]
    assert [each.answer for each in report.predictions] == [str(place) for place in chosen]


def test_one_id_per_item_is_needed():
    with pytest.raises(DataError, match="expected one id per item"):
        report_choices(ChoiceReport([SimpleNamespace()]), [])


def test_rows_of_the_hub_are_read(tmp_path):
    row = {"question": "1 + 1?", "subject": "maths", "choices": ["1", "2"], "answer": 1}
    (tmp_path / "mmlu.jsonl").write_text(f"\n{json.dumps(row)}\n")

    [question] = read_choice_questions(tmp_path / "mmlu.jsonl")

    assert question == ChoiceQuestion("2", "1 + 1?", ("1", "2"), 1, "maths")
    assert question.letter == "B"


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ({"question": "x", "choices": ["1"], "answer": 0}, "2 to 26 choices"),
        ({"question": "x", "choices": ["1", "2"], "answer": 2}, "found 2 and 2"),
        ({"question": "x", "choices": ["1", "2"], "answer": "B"}, "position of the right one"),
        ({"question": "x", "answer": 1}, "2 to 26 choices"),
        ({"choices": ["1", "2"], "answer": 1}, "found the keys choices, answer"),
    ],
)
def test_a_malformed_row_is_refused(tmp_path, row, hint):
    (tmp_path / "mmlu.jsonl").write_text(json.dumps(row))

    with pytest.raises(DataError, match=hint):
        read_choice_questions(tmp_path / "mmlu.jsonl")


def test_a_file_without_questions_is_refused(tmp_path):
    (tmp_path / "mmlu.jsonl").write_text("")

    with pytest.raises(DataError, match="holds no question"):
        read_choice_questions(tmp_path / "mmlu.jsonl")
