"""Spans of characters, and the two seams of chunking: what cuts and what counts tokens."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ragkit.types import Metadata

Span = tuple[int, int]
"""First character and one past the last."""


class TokenCounter(Protocol):
    """The tokenizer of the encoder that will embed the passages."""

    max_seq_length: int
    """Most tokens of one passage, special tokens and prefix included."""

    def token_offsets(self, text: str) -> NDArray[np.int32]:
        """First and last character (exclusive) of each token of the bare text, `[tokens, 2]`."""
        ...

    def count(self, text: str, title: str) -> int:
        """Tokens of a passage as it is embedded: template, prefix and special tokens included."""
        ...


class Chunker(ABC):
    """Cuts a text into passages; a pure function of the text, its title and the tokenizer."""

    @abstractmethod
    def cut(self, text: str, *, title: str, counter: TokenCounter | None) -> list[Span]:
        """The spans of the passages, in order, without white space at their edges."""

    def fit_title(self, title: str, *, counter: TokenCounter | None) -> str:
        """The title that every passage bears."""
        return title

    def describe(self, text: str, spans: Sequence[Span]) -> list[Metadata]:
        """What is known of each passage beside its text."""
        return [{}] * len(spans)


def trim(text: str, start: int, end: int) -> Span:
    """The span without white space at its edges; empty if it holds nothing else."""
    while start < end and text[end - 1].isspace():
        end -= 1
    while start < end and text[start].isspace():
        start += 1
    return start, end
