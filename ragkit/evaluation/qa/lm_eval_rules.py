"""Answers scored as lm-evaluation-harness 0.4 scores them, so that figures compare with its own.

Its rules differ from SQuAD's: `nq_open` removes articles only before a space and only in some
spellings, `triviaqa` removes none, neither squeezes spaces, and both end an answer at the first
full stop or comma, so that `J. K. Rowling` becomes `J`. `webqs` generates nothing: it asks whether
an accepted answer is what greedy decoding gives after the prompt.
"""

import re
import string
from collections.abc import Sequence

NQ_OPEN_STOPS = ("\n", ".", ",")
"""End an answer, in `nq_open` as in `triviaqa`."""

# Neither `AN ` nor an article at the end of the text.
_NQ_OPEN_ARTICLES = re.compile(r"\b(?:The |the |An |A |a |an )")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def nq_open_match(answer: str, golds: Sequence[str]) -> float:
    """1 if the answer equals a gold answer by the rules of `nq_open`, else 0."""
    found = _bare(_NQ_OPEN_ARTICLES.sub("", answer.strip()))
    return float(any(found == _bare(_NQ_OPEN_ARTICLES.sub("", gold)) for gold in golds))


def triviaqa_match(answer: str, golds: Sequence[str]) -> float:
    """1 if the answer equals a gold answer by the rules of `triviaqa`, else 0."""
    found = _bare(answer.strip())
    return float(any(found == _bare(gold) for gold in golds))


def webqs_match(answer: str, golds: Sequence[str]) -> float:
    """1 if the answer, decoded greedily, begins with a gold answer, else 0.

    The harness compares tokens, so that it differs where a gold answer ends within a token of the
    answer (`19` in `1988`).
    """
    return float(answer.removeprefix(" ").startswith(tuple(without_longer(golds))))


def without_longer(golds: Sequence[str]) -> list[str]:
    """The gold answers that `webqs` asks for, sorted: none that begins with another one."""
    kept: list[str] = []
    for gold in sorted(golds):
        # What begins with a shorter one follows it, or one that begins with it, at once.
        if not kept or not gold.startswith(kept[-1]):
            kept.append(gold)
    return kept


def _bare(text: str) -> str:
    return text.lower().translate(_PUNCTUATION)
