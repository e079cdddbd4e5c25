"""An encoder from texts to vectors around a transformer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ragkit.encoders.base import Tokens
from ragkit.encoders.prefixes import Prefixes
from ragkit.encoders.tokenizing import TextTokenizer
from ragkit.types import Role


class Embedder(Protocol):
    """Turns tokens into vectors: one tower, or several that share the work."""

    @property
    def dim(self) -> int:
        """Width of a vector."""
        ...

    @property
    def normalized(self) -> bool:
        """Whether every vector has length 1."""
        ...

    def embed(self, tokens: Tokens) -> NDArray[np.float32]:
        """One vector per text, `[texts, dim]`, in order."""
        ...


class TransformerEncoder:
    """Tokenises with the prefix of the text's role and embeds.

    Args:
        identity: The entries of `describe` that do not depend on how texts are fed; called when
            first asked for, since it hashes the weights.
    """

    def __init__(
        self,
        embedder: Embedder,
        tokenizer: TextTokenizer,
        *,
        prefixes: Prefixes,
        identity: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._embedder, self._tokenizer = embedder, tokenizer
        self._prefixes, self._identity = prefixes, identity

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self._embedder.dim

    @property
    def max_seq_length(self) -> int:
        """Most tokens of one text, special tokens and prefix included."""
        return self._tokenizer.max_seq_length

    @property
    def normalized(self) -> bool:
        """Whether every vector has length 1."""
        return self._embedder.normalized

    def tokenize(self, texts: Sequence[str], *, role: Role) -> Tokens:
        """Token ids of each text with the prefix of its role."""
        return self._tokenizer.tokenize(texts, prefix=self._prefixes.of(role))

    def token_offsets(self, text: str) -> NDArray[np.int32]:
        """First and last character (exclusive) of each token of the bare text, `[tokens, 2]`."""
        return self._tokenizer.token_offsets(text)

    def embed(self, tokens: Tokens) -> NDArray[np.float32]:
        """One vector per text, `[texts, dim]`, in order; NaN where the model gives none."""
        return self._embedder.embed(tokens)

    def encode(self, texts: Sequence[str], *, role: Role) -> NDArray[np.float32]:
        """`embed(tokenize(texts))`, `[texts, dim]`."""
        return self.embed(self.tokenize(texts, role=role))

    def describe(self) -> dict[str, Any]:
        """What identifies the model, as JSON values."""
        return {
            **self._identity(),
            "dim": self.dim,
            "max_seq_length": self.max_seq_length,
            "normalize": self.normalized,
            "query_prefix": self._prefixes.query,
            "passage_prefix": self._prefixes.passage,
            "prompt_source": self._prefixes.source,
        }
