"""One query against many rows, in one pass by a compiled loop, over the vectors as they are stored.

A single query costs what it takes to read the rows. Four places of the block are read in turn,
because one core fetches several streams faster than one, and half-precision values are widened
in registers instead of in a buffer. The compiler costs a process about a second, once.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.index.decode import widening

Row = NDArray[np.float32]
Keep = Callable[[Row, NDArray[np.int64], np.float32, int], None]
Scan = Callable[[NDArray[np.generic], Row, Row, NDArray[np.int64]], None]

# Sums may be regrouped into vector registers; infinities and NaN keep their meaning.
_REGROUP = {"reassoc", "contract", "nsz", "arcp"}
_LARGEST = np.finfo(np.float32).max


def best_rows(
    stored: NDArray[np.generic], query: NDArray[np.float32], *, k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores and rows of the `k` largest inner products, both `[k]`, best first.

    Equal scores come in no particular order. Slots without a finite score hold row -1 and -inf.

    Args:
        stored: `[rows, dim]`, finite: fp32, fp16 or the codes of `i8`.
        query: `[dim]`, times the factors of the codes.
    """
    if stored.dtype != np.float16:
        return _scan(stored, query, k=k)
    # Widening multiplies by 2**112, and the compiler may move that to the query: below 1 it stays
    # finite. Powers of two change no digit.
    exponent = np.frexp(np.abs(query).max())[1]
    scores, rows = _scan(stored.view(np.uint16), np.ldexp(query, -exponent), k=k)
    with np.errstate(over="ignore"):
        scores = np.ldexp(scores, exponent)
    lost = scores == np.inf
    return np.where(lost, -np.inf, scores), np.where(lost, -1, rows)


def _scan(
    stored: NDArray[np.generic], query: NDArray[np.float32], *, k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    scores, rows = np.full(k, -np.inf, np.float32), np.full(k, -1, np.int64)
    _compiled(stored.dtype)(stored, query, scores, rows)
    order = np.argsort(-scores)
    return scores[order], rows[order]


@functools.cache
def _compiled(dtype: np.dtype[np.generic]) -> Scan:
    import numba

    njit: Any = numba.njit  # its types tell a compiled function from a plain one
    widen = njit(widening(finite=True) if dtype == np.uint16 else _to_float)
    scan: Scan = njit(nogil=True, fastmath=_REGROUP)(_loop(widen, njit(_keep)))
    return scan


def _to_float(value: np.generic) -> np.float32:
    return np.float32(value)


def _loop(widen: Callable[[Any], np.float32], keep: Keep) -> Scan:
    """The pass over the rows; `scores` and `rows` are a heap with the worst hit on top."""

    def scan(stored: NDArray[np.generic], query: Row, scores: Row, rows: NDArray[np.int64]) -> None:
        num_rows, dim = stored.shape
        quarter = num_rows // 4
        for i in range(quarter):
            first, second = np.float32(0), np.float32(0)
            third, fourth = np.float32(0), np.float32(0)
            for j in range(dim):
                value = query[j]
                first += widen(stored[i, j]) * value
                second += widen(stored[quarter + i, j]) * value
                third += widen(stored[2 * quarter + i, j]) * value
                fourth += widen(stored[3 * quarter + i, j]) * value
            keep(scores, rows, first, i)
            keep(scores, rows, second, quarter + i)
            keep(scores, rows, third, 2 * quarter + i)
            keep(scores, rows, fourth, 3 * quarter + i)
        for i in range(4 * quarter, num_rows):
            first = np.float32(0)
            for j in range(dim):
                first += widen(stored[i, j]) * query[j]
            keep(scores, rows, first, i)

    return scan


def _keep(scores: Row, rows: NDArray[np.int64], score: np.float32, row: int) -> None:
    """Put a hit in place of the worst one, if it is better, and restore the heap."""
    if not scores[0] < score <= _LARGEST:
        return
    place, child = 0, 1
    while child < scores.size:
        if child + 1 < scores.size and scores[child + 1] < scores[child]:
            child += 1
        if score <= scores[child]:
            break
        scores[place], rows[place] = scores[child], rows[child]
        place, child = child, 2 * child + 1
    scores[place], rows[place] = score, row
