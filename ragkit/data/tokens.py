"""Passages of at most N tokens of the encoder, cut on characters of the original text."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragkit.data.spans import Chunker, Span, TokenCounter, trim
from ragkit.errors import ConfigError

WINDOW_CHARS = 100_000
"""A text is tokenised in windows of this length: a tokenizer takes some 200 bytes per token."""

LONGEST_TOKEN = 64
"""Characters; a longer token, such as an unknown word of 10 MB, counts as several."""


@dataclass(frozen=True)
class TokenChunker(Chunker):
    """As many tokens as fit in `size` beside the title, the prefix and the special tokens.

    Two neighbours share exactly `overlap` tokens of the document. Both start at the start of a word
    if the last quarter of the room has a place for it.

    Args:
        size: Most tokens of a passage as it is embedded.
        overlap: Tokens that two neighbours share; below `size`.
    """

    size: int
    overlap: int = 0

    def cut(self, text: str, *, title: str = "", counter: TokenCounter | None = None) -> list[Span]:
        """The spans of the passages; with a long title, for the one that `fit_title` returns.

        Raises:
            ConfigError: There is no tokenizer, it takes fewer tokens, or there is no room for text.
        """
        counter = self._check(counter)
        title = self.fit_title(title, counter=counter)
        room = self.size - counter.count("", title)
        edges = _token_edges(text, counter)
        spans, first, last = [], 0, len(edges) - 1
        while first < last:
            end, span = self._fit(text, edges, first, first + room, title=title, counter=counter)
            if span[0] < span[1]:
                spans.append(span)
            first = last if end == last else max(end - self.overlap, first + 1)
        return spans

    def _fit(
        self,
        text: str,
        edges: NDArray[np.integer],
        first: int,
        end: int,
        *,
        title: str,
        counter: TokenCounter,
    ) -> tuple[int, Span]:
        """Last edge, at most `end`, and span of the passage from edge `first` on."""
        end = min(end, len(edges) - 1)
        while True:
            end = self._best_end(text, edges, first, end)
            span = trim(text, int(edges[first]), int(edges[end]))
            # Tokens at the edges may come out otherwise than within the document.
            excess = counter.count(text[span[0] : span[1]], title) - self.size
            if excess <= 0 or end == first + 1:
                return end, span
            end = max(end - excess, first + 1)

    def fit_title(self, title: str, *, counter: TokenCounter | None) -> str:
        """`title`, or as much of it as leaves half of the tokens to the text.

        Raises:
            ConfigError: As for `cut`.
        """
        counter = self._check(counter)
        most = self.size - max(self.size // 2, self.overlap + 1)
        if counter.count("", title) <= most:
            return title
        ends = counter.token_offsets(title)[: max(most, 0), 1].tolist()
        while ends and counter.count("", title[: ends[-1]]) > most:
            ends.pop()
        return title[: ends[-1]] if ends else ""

    def _check(self, counter: TokenCounter | None) -> TokenCounter:
        spec = f"tokens:{self.size}:{self.overlap}"
        if counter is None:
            raise ConfigError(
                f"{spec} counts tokens of an encoder, found none: name one, or cut by words:100"
            )
        if self.size > counter.max_seq_length:
            raise ConfigError(
                f"{spec}: the encoder sees {counter.max_seq_length} tokens and drops the rest: "
                f"use at most tokens:{counter.max_seq_length}:{self.overlap}"
            )
        if (taken := counter.count("", "")) + self.overlap >= self.size:
            raise ConfigError(
                f"{spec} leaves no room for text: prefix and special tokens take {taken} and the "
                f"overlap {self.overlap}: use a larger size or a smaller overlap"
            )
        return counter

    def _best_end(self, text: str, edges: NDArray[np.integer], first: int, end: int) -> int:
        """The last edge up to `end` where a word starts, both there and at the next passage."""
        if end == len(edges) - 1:
            return end
        candidates = range(end, max(end - (end - first) // 4, first + self.overlap), -1)
        at_word = [edge for edge in candidates if _starts_word(text, int(edges[edge]))]
        both = (edge for edge in at_word if _starts_word(text, int(edges[edge - self.overlap])))
        return next(both, at_word[0] if at_word else end)


def _starts_word(text: str, position: int) -> bool:
    return position == 0 or text[position - 1].isspace() or text[position].isspace()


def _token_edges(text: str, counter: TokenCounter) -> NDArray[np.integer]:
    """First character of each token and, at last, the length of the text, `[tokens + 1]`.

    What no token covers, such as white space, belongs to the token before it.
    """
    parts = []
    for start, end in _windows(text):
        offsets = counter.token_offsets(text[start:end])  # [tokens, 2]
        parts.append(offsets[:, 0].astype(np.int32) + np.int32(start))
    starts = np.concatenate(parts)
    starts = starts if len(starts) else np.zeros(1, np.int32)
    starts[0] = 0
    edges = np.append(starts, np.int32(len(text)))
    gaps = np.flatnonzero(np.diff(edges) > LONGEST_TOKEN)
    if not len(gaps):
        return edges
    inner = [np.arange(edges[i] + LONGEST_TOKEN, edges[i + 1], LONGEST_TOKEN) for i in gaps]
    return np.sort(np.concatenate([edges, *inner]))


def _windows(text: str) -> Iterator[Span]:
    """Spans of at most `WINDOW_CHARS`, cut before white space where there is any."""
    start = 0
    while len(text) - start > WINDOW_CHARS:
        end = start + WINDOW_CHARS
        space = max(text.rfind(white, start + WINDOW_CHARS // 2, end) for white in " \n\t")
        end = space if space > 0 else end
        yield start, end
        start = end
    yield start, len(text)
