"""Equal scores in the order of the passages' ids, whatever rows the passages have."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ragkit.index.merge import Found
from ragkit.index.reader import Index

# So many passages of one score are looked at to find those with the smallest ids; of more, the
# ones that were indexed first are taken.
MAX_TIED = 1024

Search = Callable[[NDArray[np.float32], int], Found]
"""Scores and rows, `[queries, hits]` each, of so many hits."""


def search_in_order(search: Search, index: Index, queries: NDArray[np.float32], *, k: int) -> Found:
    """Scores and rows of the `k` best passages, best first, those of equal score by id."""
    scores, rows = search(queries, min(k + 1, len(index)))
    over = _over_the_edge(scores, k)
    if over.size:
        wide = search(queries[over], min(k + MAX_TIED, len(index)))
        _order(index, *wide)
        scores[over, :k], rows[over, :k] = wide[0][:, :k], wide[1][:, :k]
    scores, rows = scores[:, :k], rows[:, :k]
    _order(index, scores, rows)
    return scores, rows


def _over_the_edge(scores: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Queries of which the first hit left out has the score of the last one taken."""
    if scores.shape[1] <= k:
        return np.empty(0, np.intp)
    return np.flatnonzero((scores[:, k] == scores[:, k - 1]) & np.isfinite(scores[:, k]))


def _order(index: Index, scores: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
    """Put rows of equal score in the order of their ids, in place."""
    tied = (scores[:, 1:] == scores[:, :-1]) & (rows[:, 1:] >= 0)
    for query in np.flatnonzero(tied.any(axis=1)):
        found = rows[query][rows[query] >= 0]
        ids = index.column("id", found)
        order = sorted(range(len(found)), key=lambda i: (-scores[query, i], ids[i]))
        rows[query, : len(found)] = found[order]
