"""The seam between texts and vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ragkit.types import Role


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids of some texts, one after the other, as the model will see them.

    Args:
        ids: `[tokens]`, special tokens and prefix included, cut at the model's maximum.
        offsets: `[texts + 1]`; text `i` owns `ids[offsets[i]:offsets[i + 1]]`.
        lengths: `[texts]` tokens *before* the cut: larger than the model's maximum if the text
            was truncated; for very long texts only a lower bound.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.lengths)


class Encoder(Protocol):
    """Turns texts into vectors that are compared by one metric."""

    @property
    def dim(self) -> int:
        """Width of a vector."""
        ...

    @property
    def max_seq_length(self) -> int:
        """Most tokens of one text, special tokens and prefix included."""
        ...

    @property
    def normalized(self) -> bool:
        """Whether every vector has length 1."""
        ...

    def tokenize(self, texts: Sequence[str], *, role: Role) -> Tokens:
        """Token ids of each text with the prefix of its role."""
        ...

    def token_offsets(self, text: str) -> NDArray[np.int32]:
        """First and last character (exclusive) of each token of the bare text, `[tokens, 2]`."""
        ...

    def embed(self, tokens: Tokens) -> NDArray[np.float32]:
        """One vector per text, `[texts, dim]`, in order; NaN where the model gives none."""
        ...

    def encode(self, texts: Sequence[str], *, role: Role) -> NDArray[np.float32]:
        """`embed(tokenize(texts))`, `[texts, dim]`."""
        ...

    def describe(self) -> dict[str, Any]:
        """What identifies the model, as JSON values: the manifest's `model`."""
        ...
