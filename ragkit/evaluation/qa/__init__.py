"""Question answering: metrics of generated answers, with intervals; knows no model or index."""

from ragkit.evaluation.qa.bootstrap import Estimate
from ragkit.evaluation.qa.evaluate import compare_reports, evaluate_answers
from ragkit.evaluation.qa.questions import Question, read_questions, sample_questions
from ragkit.evaluation.qa.report import QaReport, RunFacts
from ragkit.evaluation.qa.rules import AnswerRules, find_rules

__all__ = [
    "AnswerRules",
    "Estimate",
    "QaReport",
    "Question",
    "RunFacts",
    "compare_reports",
    "evaluate_answers",
    "find_rules",
    "read_questions",
    "sample_questions",
]
