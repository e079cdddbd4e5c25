"""Sentences by rule, and passages of whole sentences; nothing is downloaded or learned."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ragkit.data.spans import Chunker, Span, TokenCounter, trim
from ragkit.data.words import LONGEST_WORD, find_units, pack_units

_CJK = "\u2e80-\u2fff\u3001-\u312f\u31a0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff01-\uff65"
UNIT = re.compile(f"[{_CJK}]|[^\\s{_CJK}]+")
"""A word, or a character of a script that puts no spaces between words."""

# A run of full stops is one match, whatever follows, so that no text makes the search start again.
_STOP = re.compile(
    "[.!?\u2026]+[\"')\\]\u2019\u201d\u00bb]*|[\u3002\uff01\uff1f\uff61]+[\u300d\u300f\u201d]*"
    "|\n[^\\S\n]*\n\\s*"
)
_SPACELESS_STOPS = "\u3002\uff01\uff1f\uff61"
_LAST_WORD = re.compile(r"[\w.&]*\Z")
_LONGEST_ABBREVIATION = 12

_ABBREVIATION = re.compile(
    "adm|al|approx|apr|assn|assoc|aug|ave|bldg|blvd|bros|ca|capt|cf|chap|co|corp|cpl|dec|dept|dr|eds?"
    "|eqs?|esp|etc|feb|figs?|gov|hon|ibid|inc|jr|jul|lt|ltd|messrs|mrs?|ms|mt|nov|oct|pp|prof|pt|pvt"
    "|rd|refs?|rev|sect|sept?|sgt|sr|st|univ|viz|vols?|vs|(?:\\w\\.)+\\w",
    re.IGNORECASE,
)
# These are words too: the sentence goes on only if a number follows.
_BEFORE_NUMBER = re.compile("art|ch|col|jan|jun|mar|nos?|nr|p|rep|sec|tab", re.IGNORECASE)


@dataclass(frozen=True)
class SentenceChunker(Chunker):
    """As many whole sentences as `size` words hold; a longer sentence is cut between words.

    Args:
        size: Most words of a passage; a Chinese or Japanese character counts as a word.
    """

    size: int

    def cut(self, text: str, *, title: str = "", counter: TokenCounter | None = None) -> list[Span]:
        """The spans of the passages."""
        return pack_spans(text, sentence_spans(text), size=self.size)


def split_sentences(text: str) -> list[str]:
    """The sentences of `text`."""
    return [text[start:end] for start, end in sentence_spans(text)]


def sentence_spans(text: str, start: int = 0, end: int | None = None) -> Iterator[Span]:
    """The spans of the sentences between two positions, without white space at their edges."""
    end = len(text) if end is None else end
    for match in _STOP.finditer(text, start, end):
        if match.start() >= start and _ends_sentence(text, match.start(), match.end(), end):
            first, last = trim(text, start, match.end())
            if first < last:
                yield first, last
            start = match.end()
    first, last = trim(text, start, end)
    if first < last:
        yield first, last


def count_units(text: str, start: int, end: int) -> int:
    """Words between two positions; a Chinese or Japanese character counts as one."""
    return sum(1 for _ in UNIT.finditer(text, start, end))


def pack_spans(text: str, spans: Iterable[Span], *, size: int) -> list[Span]:
    """Neighbouring spans joined as long as they hold at most `size` words together.

    A span that is longer by itself is cut between words, and a word of more than `LONGEST_WORD`
    characters anywhere.
    """
    packed: list[Span] = []
    words = 0  # in the last of `packed`; 0 keeps the next span from joining it
    for start, end in spans:
        starts, ends = find_units(UNIT, text, start, end)
        if len(starts) > size or np.any(ends - starts > LONGEST_WORD):
            packed += pack_units(starts, ends, size=size)
            words = 0
        elif words and words + len(starts) <= size:
            packed[-1] = (packed[-1][0], end)
            words += len(starts)
        else:
            packed.append((start, end))
            words = len(starts)
    return packed


def _ends_sentence(text: str, start: int, stop: int, end: int) -> bool:
    """Whether the match `text[start:stop]` is the end of a sentence."""
    if text[start] == "\n" or text[start] in _SPACELESS_STOPS or stop == end:
        return True
    if not text[stop].isspace():
        return False
    following = text[stop : stop + 64].lstrip()[:1]  # past an indented line it is a guess
    if following.islower():
        return False
    if text[start] != "." or text[start:stop].startswith(".."):
        return True
    return not _is_abbreviation(text[max(0, start - _LONGEST_ABBREVIATION) : start], following)


def _is_abbreviation(before: str, following: str) -> bool:
    """Whether the full stop between the two belongs to the last word of `before`."""
    found = _LAST_WORD.search(before)
    word = found[0] if found else ""
    if len(word) == 1 and word.isupper() and word != "I":
        return True  # an initial
    if following.isdigit() and _BEFORE_NUMBER.fullmatch(word):
        return True
    return _ABBREVIATION.fullmatch(word) is not None
