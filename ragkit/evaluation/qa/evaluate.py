"""Scores answers against questions, wherever they come from."""

from collections.abc import Sequence

import numpy as np

from ragkit.errors import ConfigError, DataError
from ragkit.evaluation.qa.bootstrap import Estimate, bootstrap_differences
from ragkit.evaluation.qa.metrics import passage_recall_at
from ragkit.evaluation.qa.predictions import Prediction
from ragkit.evaluation.qa.questions import Question
from ragkit.evaluation.qa.report import QaReport, RunFacts, make_report, scores_by_metric
from ragkit.evaluation.qa.rules import SQUAD_RULES, AnswerRules

RetrievedIds = Sequence[Sequence[str]]
"""Passage ids of each question, best first."""


def evaluate_answers(
    questions: Sequence[Question],
    answers: Sequence[str],
    retrieved_ids: RetrievedIds | None = None,
    *,
    rules: AnswerRules = SQUAD_RULES,
    depths: Sequence[int] | None = None,
    facts: RunFacts | None = None,
    seed: int = 0,
) -> QaReport:
    """How good `answers` are, and how well the passages that they rest on were found.

    Args:
        answers: One per question, as generated.
        retrieved_ids: What was retrieved for each question; `None` for closed book. Questions
            whose passages are unknown do not count for recall.
        depths: Each `k` of recall@k; `None` for 1 and as many passages as were retrieved.
        seed: Decides the draws of the intervals.

    Raises:
        ConfigError: A depth is below 1 or more than were retrieved.
        DataError: There is no question, or not one answer and list of ids for each.
    """
    _check_lengths(questions, answers, retrieved_ids)
    found: Sequence[Sequence[str] | None] = retrieved_ids or [None] * len(questions)
    depths = _depths(retrieved_ids or [], depths)
    predictions = [
        Prediction(
            question.id,
            answer,
            None if ids is None else tuple(ids),
            _score(question, answer, rules) | _recall(question, ids, depths),
        )
        for question, answer, ids in zip(questions, answers, found, strict=True)
    ]
    counts = _count(questions, answers, retrieved_ids)
    return make_report(predictions, rules=rules.name, counts=counts, facts=facts, seed=seed)


def compare_reports(report: QaReport, base: QaReport, *, seed: int = 0) -> dict[str, Estimate]:
    """What `report` gains over `base` by metric that both have, question by question.

    Raises:
        DataError: They are not of the same questions and rules, or share no metric.
    """
    ours, theirs = (scores_by_metric(each.predictions) for each in (report, base))
    shared = [name for name in ours if name in theirs]
    alike = report.rules == base.rules and shared
    if not alike or {p.id for p in report.predictions} != {p.id for p in base.predictions}:
        raise DataError(
            f"expected two reports of the same questions and rules, found {report.rules} of "
            f"{len(report.predictions)} and {base.rules} of {len(base.predictions)}: answer the "
            "same questions in both"
        )
    gains: dict[str, Estimate] = {}
    for name in shared:
        ids = [each for each in ours[name] if each in theirs[name]]
        gains |= bootstrap_differences(
            {name: [ours[name][each] for each in ids]},
            {name: [theirs[name][each] for each in ids]},
            generator=np.random.default_rng(seed),
        )
    return gains


def _check_lengths(
    questions: Sequence[Question], answers: Sequence[str], retrieved_ids: RetrievedIds | None
) -> None:
    num_found = len(questions) if retrieved_ids is None else len(retrieved_ids)
    if not len(questions) == len(answers) == num_found:
        raise DataError(
            f"expected one answer and one list of ids per question, found {len(questions)} "
            f"questions, {len(answers)} answers and {num_found} lists: keep them in step"
        )


def _depths(retrieved_ids: RetrievedIds, depths: Sequence[int] | None) -> list[int]:
    deepest = max(map(len, retrieved_ids), default=0)
    if depths is None:
        return sorted({1, deepest}) if deepest else []
    if wrong := [depth for depth in depths if not 1 <= depth <= deepest]:
        raise ConfigError(
            f"recall@{wrong[0]} needs as many retrieved passages, found at most {deepest}: "
            "retrieve more, or lower the depth"
        )
    return sorted({*depths})


def _score(question: Question, answer: str, rules: AnswerRules) -> dict[str, float]:
    scored = rules.cut(answer)
    return {name: metric(scored, question.answers) for name, metric in rules.metrics.items()}


def _recall(
    question: Question, ids: Sequence[str] | None, depths: Sequence[int]
) -> dict[str, float]:
    if ids is None or not question.passage_ids:
        return {}
    return {f"recall@{k}": passage_recall_at(k, ids, question.passage_ids) for k in depths}


def _count(
    questions: Sequence[Question], answers: Sequence[str], retrieved_ids: RetrievedIds | None
) -> dict[str, int]:
    counts = {"empty_answers": sum(not answer.strip() for answer in answers)}
    if retrieved_ids is None:
        return counts
    return counts | {
        "nothing_retrieved": sum(not ids for ids in retrieved_ids),
        "unknown_passages": sum(not question.passage_ids for question in questions),
    }
