"""Forms in which answers are compared: SQuAD's normal form, and the tokens of a span."""

import re
import string
from unicodedata import normalize

import regex  # type: ignore[import-untyped]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# A run of letters, digits and marks, or any other character that shows.
_TOKEN = regex.compile(r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]")


def normalize_answer(text: str) -> str:
    """`text` in lower case, without ASCII punctuation and articles, its words one space apart.

    The normal form of SQuAD (Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1). Punctuation
    goes first, so that `U.S.` becomes `us` and `the-end` becomes `theend`.
    """
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def span_tokens(text: str) -> list[str]:
    """The lower-case tokens of `text` on which spans are matched.

    Accents are split off (NFD) but kept, as DPR does (Karpukhin et al. 2020, arXiv:2004.04906).
    """
    return [token.lower() for token in _TOKEN.findall(normalize("NFD", text))]
