"""How well one answer agrees with the gold answers: the best of these counts.

Every metric takes the answer and one or more gold answers, and gives 0 to 1.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

from ragkit.errors import DataError
from ragkit.evaluation.qa.normalize import normalize_answer, span_tokens

Metric = Callable[[str, Sequence[str]], float]


def exact_match(answer: str, golds: Sequence[str]) -> float:
    """1 if the answer equals a gold answer in SQuAD's normal form, else 0."""
    found = normalize_answer(answer)
    return float(any(found == normalize_answer(gold) for gold in golds))


def token_f1(answer: str, golds: Sequence[str]) -> float:
    """F1 of the words that the answer shares with a gold answer, both in SQuAD's normal form.

    A word counts as often as both have it. Where nothing is left of one of them it is 0, also if
    nothing is left of the other.
    """
    found = normalize_answer(answer).split()
    return max(_overlap_f1(found, normalize_answer(gold).split()) for gold in golds)


def contains_answer(text: str, golds: Sequence[str]) -> float:
    """1 if the tokens of a gold answer stand in `text` one after the other, else 0.

    Of an answer this is its recall; of a passage, whether the answer can be read there (answer
    recall). Tokens are matched, not characters: `art` is not found in `party`.
    """
    tokens = span_tokens(text)
    return float(any(_has_span(tokens, span_tokens(gold)) for gold in golds))


def matches_pattern(answer: str, golds: Sequence[str]) -> float:
    """1 if a gold answer, a regular expression, matches all of the answer, else 0.

    Either as it stands, without white space at its ends, or in SQuAD's normal form: patterns such
    as those of CuratedTREC are written for plain text. Case is ignored.
    """
    forms = (answer.strip(), normalize_answer(answer))
    return float(any(_compile(gold).fullmatch(form) for gold in golds for form in forms))


def contains_pattern(text: str, golds: Sequence[str]) -> float:
    """1 if a gold answer, a regular expression, matches somewhere in `text`, else 0."""
    return float(any(_compile(gold).search(text) for gold in golds))


def answer_recall_at(k: int, texts: Sequence[str], golds: Sequence[str]) -> float:
    """1 if one of the first `k` passages `texts`, best first, contains a gold answer, else 0."""
    return max((contains_answer(text, golds) for text in texts[:k]), default=0.0)


def passage_recall_at(k: int, found: Sequence[str], wanted: Sequence[str]) -> float:
    """Share of the passages `wanted` that are among the first `k` of `found`; ids, best first."""
    return len({*found[:k]} & {*wanted}) / len({*wanted})


def _overlap_f1(found: Sequence[str], wanted: Sequence[str]) -> float:
    shared = (Counter(found) & Counter(wanted)).total()
    if not shared:
        return 0.0
    precision, recall = shared / len(found), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _has_span(tokens: Sequence[str], span: Sequence[str]) -> bool:
    width = len(span)
    return width > 0 and any(
        tokens[start : start + width] == span for start in range(len(tokens) - width + 1)
    )


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    except re.error as error:
        raise DataError(
            f"the gold answer {pattern!r} is no regular expression ({error}): mend it, or score "
            "with the rules of plain answers"
        ) from error
