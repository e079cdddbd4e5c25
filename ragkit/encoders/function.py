"""An encoder around any Python function from texts to vectors."""

import importlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ragkit.encoders.base import Tokens
from ragkit.encoders.description import describe_without_files
from ragkit.encoders.prefixes import NO_PREFIXES, Prefixes
from ragkit.errors import ConfigError, ShapeError
from ragkit.types import Role

TextFunction = Callable[[list[str]], ArrayLike]
"""Gives `[texts, dim]` for a list of texts."""

DEFAULT_MAX_SEQ_LENGTH = 1_000_000


class FunctionEncoder:
    """Calls a function; the tokens of a text are its UTF-8 bytes, which the function gets decoded.

    Args:
        name: `python:MODULE:NAME`, the spec that finds the function again.
        max_seq_length: Most bytes of a text; a character that would be cut in half is dropped.

    Raises:
        ShapeError: The function does not give one vector for one text.
    """

    def __init__(
        self,
        function: TextFunction,
        *,
        name: str,
        max_seq_length: int = DEFAULT_MAX_SEQ_LENGTH,
        prefixes: Prefixes = NO_PREFIXES,
    ) -> None:
        self._function, self._name = function, name
        self._max_seq_length, self._prefixes = max_seq_length, prefixes
        self._dim = self._call(["probe"]).shape[1]

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self._dim

    @property
    def max_seq_length(self) -> int:
        """Most bytes of one text, prefix included."""
        return self._max_seq_length

    @property
    def normalized(self) -> bool:
        """Whether every vector is known to have length 1: never."""
        return False

    def tokenize(self, texts: Sequence[str], *, role: Role) -> Tokens:
        """Bytes of each text with the prefix of its role."""
        prefix = self._prefixes.of(role)
        rows = [(prefix + text).encode("utf-8", "replace") for text in texts]
        lengths = np.fromiter(map(len, rows), np.int32, len(rows))
        sizes = np.minimum(lengths, self.max_seq_length)
        flat = b"".join(row[: self.max_seq_length] for row in rows)
        ids = np.frombuffer(flat, np.uint8).astype(np.int32)
        return Tokens(ids, np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]), lengths)

    def token_offsets(self, text: str) -> NDArray[np.int32]:
        """First and last character (exclusive) of each byte of the bare text, `[bytes, 2]`."""
        widths = [len(char.encode("utf-8", "replace")) for char in text]
        chars = np.repeat(np.arange(len(text), dtype=np.int32), widths)
        return np.stack([chars, chars + 1], axis=1)

    def embed(self, tokens: Tokens) -> NDArray[np.float32]:
        """One vector per text, `[texts, dim]`, in order.

        Raises:
            ShapeError: The function gave another number or width of vectors than asked for.
        """
        if not len(tokens):
            return np.empty((0, self.dim), np.float32)
        flat = tokens.ids.astype(np.uint8).tobytes()
        spans = pairwise(tokens.offsets.tolist())
        vectors = self._call([flat[start:stop].decode("utf-8", "ignore") for start, stop in spans])
        if vectors.shape[1] != self.dim:
            raise ShapeError(
                f"{self._name} gave vectors of {vectors.shape[1]} dimensions, {self.dim} before: "
                "every call must give the same width"
            )
        return vectors

    def encode(self, texts: Sequence[str], *, role: Role) -> NDArray[np.float32]:
        """`embed(tokenize(texts))`, `[texts, dim]`."""
        return self.embed(self.tokenize(texts, role=role))

    def describe(self) -> dict[str, Any]:
        """What identifies the encoder, as JSON values; what the function does is not known."""
        return describe_without_files(
            self._name,
            dim=self.dim,
            max_seq_length=self.max_seq_length,
            pooling="function",
            normalize=False,
            prefixes=self._prefixes,
        )

    def _call(self, texts: list[str]) -> NDArray[np.float32]:
        vectors = np.asarray(self._function(texts), np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise ShapeError(
                f"{self._name} gave an array of shape {list(vectors.shape)} for "
                f"{len(texts)} texts, expected [{len(texts)}, dim]: return one row per text"
            )
        return vectors


def import_function(name: str) -> TextFunction:
    """The function that `python:MODULE:NAME` names.

    Raises:
        ConfigError: There is no such module, or nothing to call under that name.
    """
    module, _, attribute = name.removeprefix("python:").partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{name} cannot be imported ({error}): write python:MODULE:NAME, with the module on "
            "the Python path"
        ) from error
    if not callable(function):
        raise ConfigError(f"{name} is not a function: name one that turns list[str] into an array")
    return function
