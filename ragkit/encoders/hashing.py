"""A bag of words without a model: the hashing trick (Weinberger et al. 2009, arXiv:0902.2206).

It differs in one point: a text whose signs cancel out is counted without signs, so that every text
with a word in it has a vector.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from ragkit.encoders.base import Tokens
from ragkit.encoders.description import describe_without_files
from ragkit.encoders.prefixes import NO_PREFIXES, Prefixes
from ragkit.errors import ConfigError
from ragkit.types import Role

DEFAULT_MAX_SEQ_LENGTH = 512

_TOKEN = re.compile(r"\w+|[^\w\s]")
_ROWS_AT_ONCE = 4096
_SIGN_BIT = 30


class HashEncoder:
    """Adds +1 or -1 to one of `dim` buckets for each word; needs no weights and no torch.

    Args:
        dim: Number of buckets.
        max_seq_length: Most words and punctuation marks that count, from the start of the text.

    Raises:
        ConfigError: A size is below 1.
    """

    def __init__(
        self,
        dim: int,
        *,
        max_seq_length: int = DEFAULT_MAX_SEQ_LENGTH,
        prefixes: Prefixes = NO_PREFIXES,
    ) -> None:
        if dim < 1 or max_seq_length < 1:
            raise ConfigError(
                f"a hash encoder needs sizes of at least 1, got {dim=}, {max_seq_length=}: "
                "write for example hash:256"
            )
        self._dim, self._max_seq_length, self._prefixes = dim, max_seq_length, prefixes

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self._dim

    @property
    def max_seq_length(self) -> int:
        """Most tokens of one text, prefix included."""
        return self._max_seq_length

    @property
    def normalized(self) -> bool:
        """Whether every vector has length 1: always."""
        return True

    def tokenize(self, texts: Sequence[str], *, role: Role) -> Tokens:
        """Word hashes of each text with the prefix of its role."""
        prefix = self._prefixes.of(role)
        words = [_TOKEN.findall(prefix + text) for text in texts]
        lengths = np.fromiter(map(len, words), np.int32, len(words))
        sizes = np.minimum(lengths, self.max_seq_length)
        hashes = (_hash_word(word.lower()) for row in words for word in row[: self.max_seq_length])
        ids = np.fromiter(hashes, np.int32, int(sizes.sum()))
        return Tokens(ids, np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]), lengths)

    def token_offsets(self, text: str) -> NDArray[np.int32]:
        """First and last character (exclusive) of each token of the bare text, `[tokens, 2]`."""
        spans = [match.span() for match in _TOKEN.finditer(text)]
        return np.array(spans, np.int32).reshape(-1, 2)

    def embed(self, tokens: Tokens) -> NDArray[np.float32]:
        """One vector per text, `[texts, dim]`, in order; NaN for a text without words."""
        vectors = np.empty((len(tokens), self.dim), np.float32)
        for start in range(0, len(tokens), _ROWS_AT_ONCE):
            stop = min(start + _ROWS_AT_ONCE, len(tokens))
            vectors[start:stop] = self._count(tokens, start, stop)
        return vectors

    def encode(self, texts: Sequence[str], *, role: Role) -> NDArray[np.float32]:
        """`embed(tokenize(texts))`, `[texts, dim]`."""
        return self.embed(self.tokenize(texts, role=role))

    def describe(self) -> dict[str, Any]:
        """What identifies the encoder, as JSON values; there are no weights to hash."""
        return describe_without_files(
            f"hash:{self.dim}",
            dim=self.dim,
            max_seq_length=self.max_seq_length,
            pooling="sum",
            normalize=True,
            prefixes=self._prefixes,
        )

    def _count(self, tokens: Tokens, start: int, stop: int) -> NDArray[np.float64]:
        """Unit vectors of texts `start` to `stop`, `[stop - start, dim]`."""
        bounds = tokens.offsets[start : stop + 1]
        ids = tokens.ids[bounds[0] : bounds[-1]]
        rows = np.repeat(np.arange(stop - start), np.diff(bounds))
        buckets = rows * self.dim + ids % self.dim
        signs = 1.0 - 2.0 * (ids >> _SIGN_BIT)
        size = (stop - start) * self.dim
        signed = np.bincount(buckets, signs, size).reshape(-1, self.dim)
        unsigned = np.bincount(buckets, minlength=size).reshape(-1, self.dim)
        sums = np.where(signed.any(axis=1, keepdims=True), signed, unsigned)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        return np.divide(sums, norms, out=np.full_like(sums, np.nan), where=norms > 0)


@lru_cache(maxsize=100_000)
def _hash_word(word: str) -> int:
    return xxhash.xxh32_intdigest(word.encode("utf-8", "replace")) & 0x7FFFFFFF
