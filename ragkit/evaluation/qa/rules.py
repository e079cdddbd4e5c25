"""Which metrics count for a set of questions, and how an answer is cut before it is scored."""

from collections.abc import Mapping
from dataclasses import dataclass

from ragkit.errors import ConfigError
from ragkit.evaluation.qa.lm_eval_rules import (
    NQ_OPEN_STOPS,
    nq_open_match,
    triviaqa_match,
    webqs_match,
)
from ragkit.evaluation.qa.metrics import (
    Metric,
    contains_answer,
    contains_pattern,
    exact_match,
    matches_pattern,
    token_f1,
)
from ragkit.evaluation.qa.rouge import rouge_l


@dataclass(frozen=True, slots=True)
class AnswerRules:
    """How answers are scored.

    Args:
        metrics: By the name under which they are reported.
        stops: The answer ends before the first of these texts.
    """

    name: str
    metrics: Mapping[str, Metric]
    stops: tuple[str, ...] = ()

    def cut(self, answer: str) -> str:
        """What of `answer` is scored."""
        for stop in self.stops:
            answer = answer.partition(stop)[0]
        return answer


SQUAD_RULES = AnswerRules(
    "squad",
    {
        "em": exact_match,
        "f1": token_f1,
        "rouge_l": rouge_l,
        "answer_recall": contains_answer,
    },
)
REGEX_RULES = AnswerRules("regex", {"em": matches_pattern, "answer_recall": contains_pattern})
LM_EVAL_RULES = (
    AnswerRules("lm-eval/nq_open", {"exact_match": nq_open_match}, NQ_OPEN_STOPS),
    AnswerRules("lm-eval/triviaqa", {"exact_match": triviaqa_match}, NQ_OPEN_STOPS),
    AnswerRules("lm-eval/webqs", {"exact_match": webqs_match}),
)

_RULES = {rules.name: rules for rules in (SQUAD_RULES, REGEX_RULES, *LM_EVAL_RULES)}


def find_rules(name: str) -> AnswerRules:
    """The rules of that name.

    Args:
        name: `squad`; `regex` for gold answers that are regular expressions; or `lm-eval/TASK` to
            score as that task of lm-evaluation-harness does.

    Raises:
        ConfigError: There are none; the message lists those that there are.
    """
    if name not in _RULES:
        raise ConfigError(f"no answer rules {name!r}: expected one of {', '.join(_RULES)}")
    return _RULES[name]
