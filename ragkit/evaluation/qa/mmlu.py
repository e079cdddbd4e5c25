"""Multiple choice by letter, as MMLU asks for it (Hendrycks et al. 2020, arXiv:2009.03300)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from ragkit.errors import DataError
from ragkit.evaluation.qa.predictions import Prediction
from ragkit.evaluation.qa.questions import read_objects
from ragkit.evaluation.qa.report import QaReport, RunFacts, make_report

if TYPE_CHECKING:
    from ragkit.evaluation.choices import ChoiceItem, ChoiceReport

METRICS = ("acc", "acc_norm", "acc_bytes", "acc_token", "acc_compl")


@dataclass(frozen=True, slots=True)
class ChoiceQuestion:
    """A question of which one of the choices is right.

    Args:
        answer: Position of the right choice.
        subject: What it is about; empty for none.
    """

    id: str
    text: str
    choices: tuple[str, ...]
    answer: int
    subject: str = ""

    @property
    def letter(self) -> str:
        """The letter of the right choice."""
        return ascii_uppercase[self.answer]

    def show(self) -> str:
        """The question, a choice a line after its letter, and `Answer:`."""
        lines = [
            f"{letter}. {choice}"
            for letter, choice in zip(ascii_uppercase, self.choices, strict=False)
        ]
        return "\n".join([self.text.strip(), *lines, "Answer:"])


def read_choice_questions(path: Path) -> list[ChoiceQuestion]:
    """The questions of JSON lines with `question`, `choices`, `answer` and perhaps `subject`.

    Raises:
        DataError: The file cannot be read or holds no question, or a line is malformed.
    """
    questions = [
        _question(row, number=number, place=f"{path}:{number}")
        for number, row in read_objects(path)
    ]
    if not questions:
        raise DataError(f"{path} holds no question: expected JSON lines with choices and answer")
    return questions


def letter_items(
    questions: Iterable[ChoiceQuestion], *, demonstrations: Sequence[ChoiceQuestion] = ()
) -> "list[ChoiceItem]":
    """Items for `evaluate_choices`: the letters are the choices, the texts stand in the prompt.

    Args:
        demonstrations: Solved before each question, except before themselves; of those that have
            the question's subject, if any has.
    """
    from ragkit.evaluation.choices import ChoiceItem

    return [
        ChoiceItem(
            _head(question)
            + "".join(_solved(each) for each in _shown(question, demonstrations))
            + question.show(),
            tuple(ascii_uppercase[: len(question.choices)]),
            question.answer,
        )
        for question in questions
    ]


def report_choices(
    report: "ChoiceReport",
    ids: Sequence[str],
    *,
    facts: RunFacts | None = None,
    seed: int = 0,
) -> QaReport:
    """The shares of right choices with their intervals; an answer is the position that was chosen.

    Args:
        ids: One per item.
        seed: Decides the draws of the intervals.

    Raises:
        DataError: There is not one id for each item.
    """
    if len(ids) != len(report.results):
        raise DataError(
            f"expected one id per item, found {len(ids)} ids of {len(report.results)} items"
        )
    predictions = [
        Prediction(
            question_id,
            str(int(result.log_likelihoods.argmax())),
            scores={
                name: float(right)
                for name in METRICS
                if (right := getattr(result, name)) is not None
            },
        )
        for question_id, result in zip(ids, report.results, strict=True)
    ]
    return make_report(predictions, rules="choices", counts={}, facts=facts, seed=seed)


def _question(row: Mapping[str, Any], *, number: int, place: str) -> ChoiceQuestion:
    choices, answer = row.get("choices") or [], row.get("answer")
    texts = isinstance(choices, list) and all(isinstance(choice, str) for choice in choices)
    if not texts or type(answer) is not int or not isinstance(row.get("question"), str):
        raise DataError(
            f"{place}: expected `question`, `choices`, a list of texts, and `answer`, the position "
            f"of the right one, found the keys {', '.join(row)}"
        )
    if not 2 <= len(choices) <= len(ascii_uppercase) or not 0 <= answer < len(choices):
        raise DataError(
            f"{place}: expected 2 to {len(ascii_uppercase)} choices and the position of one of "
            f"them, found {len(choices)} and {answer}"
        )
    question_id, subject = str(row.get("id", number)), str(row.get("subject") or "")
    return ChoiceQuestion(question_id, row["question"], tuple(choices), answer, subject)


def _head(question: ChoiceQuestion) -> str:
    if not question.subject:
        return ""
    subject = question.subject.replace("_", " ")
    return f"The following are multiple choice questions (with answers) about {subject}.\n\n"


def _shown(
    question: ChoiceQuestion, demonstrations: Sequence[ChoiceQuestion]
) -> list[ChoiceQuestion]:
    others = [each for each in demonstrations if each.show() != question.show()]
    return [each for each in others if each.subject == question.subject] or others


def _solved(question: ChoiceQuestion) -> str:
    return f"{question.show()} {question.letter}\n\n"
