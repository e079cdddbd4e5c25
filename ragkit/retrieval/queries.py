"""Are these sensible queries? And how vectors are made comparable."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ragkit.data.text import clean, is_blank
from ragkit.errors import ConfigError

MAX_K = 10_000
MAX_CHARACTERS = 1_000_000
# What fp32 makes of a length of 1.
UNIT_ATOL = 1e-6


def check_k(k: object) -> None:
    """Raise ConfigError unless `k` is a sensible number of hits."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= MAX_K:
        raise ConfigError(f"k must be a whole number from 1 to {MAX_K}, got {k!r}")


def checked_texts(texts: Sequence[object]) -> list[str]:
    """The texts, without what no tokenizer takes, if each may be embedded.

    Raises:
        ConfigError: One is empty, far too long, or no text.
    """
    if isinstance(texts, str):
        raise ConfigError("expected a list of texts, got a text: use search, or wrap it in a list")
    return [_checked(text) for text in texts]


def checked_ids(ids: Sequence[object]) -> list[str]:
    """The ids, if they may be looked up.

    Raises:
        ConfigError: One is no text, or the ids are one text.
    """
    if isinstance(ids, str) or not all(isinstance(name, str) for name in ids):
        raise ConfigError(f"ids must be a list of texts, got {ids!r}")
    return [str(name) for name in ids]


def unit_vectors(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of `[rows, dim]` scaled to length 1; a row of zeros stays as it is."""
    if len(vectors) == 1:
        if abs(float(np.vdot(vectors, vectors)) - 1) < UNIT_ATOL:
            return vectors
    elif (np.abs(np.vecdot(vectors, vectors) - 1) < UNIT_ATOL).all():
        return vectors
    # In float64, where the square of no fp32 number is lost or infinite.
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, np.finfo(np.float64).tiny), np.float32)


def _checked(text: object) -> str:
    if not isinstance(text, str):
        raise ConfigError(f"a query must be a text, got {type(text).__name__}: {text!r}")
    text, _ = clean(text)
    if is_blank(text):
        raise ConfigError("a query is empty: give at least one word")
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"a query has {len(text)} characters, at most {MAX_CHARACTERS} may be")
    return text
