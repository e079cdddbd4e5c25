"""Blocks of words, as passages are cut for dense retrieval.

Disjoint blocks of 100 words (Karpukhin et al. 2020, arXiv:2004.04906, section 4.1), or of at most
200 (Lin et al. 2023, arXiv:2310.01352). Neither says what becomes of a short last block; here it
joins the one before.
"""

import re
from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragkit.data.spans import Chunker, Span, TokenCounter

LONGEST_WORD = 1_000
"""A longer run without a space is no word but data or a script without spaces: it is cut hard."""

WORD = re.compile(r"\S+")
MERGE_TAIL = 10


@dataclass(frozen=True)
class WordChunker(Chunker):
    """Blocks of `size` words, words being what white space separates.

    Args:
        overlap: Words that two neighbours share; below `size`.
        merge_tail: A last block of fewer new words joins the one before, so that no passage is a
            scrap; counts at most a tenth of `size`. 0 keeps every block at `size` or less.
    """

    size: int
    overlap: int = 0
    merge_tail: int = MERGE_TAIL

    def cut(self, text: str, *, title: str = "", counter: TokenCounter | None = None) -> list[Span]:
        """The spans of the blocks."""
        starts, ends = find_units(WORD, text)
        return pack_units(starts, ends, size=self.size, overlap=self.overlap, merge=self.merge_tail)


def find_units(
    pattern: re.Pattern[str], text: str, start: int = 0, end: int | None = None
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """First and last character (exclusive) of each match, `[units]` each."""
    starts, ends = array("i"), array("i")  # a list of pairs would take 100 bytes per word
    for match in pattern.finditer(text, start, len(text) if end is None else end):
        starts.append(match.start())
        ends.append(match.end())
    return np.frombuffer(starts, np.int32), np.frombuffer(ends, np.int32)


def pack_units(
    starts: NDArray[np.int32],
    ends: NDArray[np.int32],
    *,
    size: int,
    overlap: int = 0,
    merge: int = 0,
) -> list[Span]:
    """Spans of blocks of `size` units; a unit longer than `LONGEST_WORD` is cut on its own."""
    spans: list[Span] = []
    first = 0
    for long in [*np.flatnonzero(ends - starts > LONGEST_WORD).tolist(), len(starts)]:
        for i, j in _blocks(long - first, size=size, overlap=overlap, merge=merge):
            spans.append((int(starts[first + i]), int(ends[first + j - 1])))
        if long < len(starts):
            spans += cut_hard(int(starts[long]), int(ends[long]))
        first = long + 1
    return spans


def cut_hard(start: int, end: int) -> list[Span]:
    """Spans of `LONGEST_WORD` characters, wherever they end."""
    return [(at, min(at + LONGEST_WORD, end)) for at in range(start, end, LONGEST_WORD)]


def _blocks(count: int, *, size: int, overlap: int, merge: int) -> list[Span]:
    """First and last (exclusive) of `count` units in each block."""
    if count == 0:
        return []
    # The last block starts before the last `overlap` units, or it would hold nothing new.
    firsts = range(0, max(count - overlap, 1), size - overlap)
    blocks = [(first, min(first + size, count)) for first in firsts]
    if len(blocks) > 1 and count - blocks[-2][1] < min(merge, size // 10):
        blocks[-2:] = [(blocks[-2][0], count)]
    return blocks
