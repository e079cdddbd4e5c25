"""The best passages, those of equal score in the order of their ids, whatever rows they have.

Works on lists for few queries: after a scan of the vectors the caches are cold, where each step of
numpy costs more than a loop over the ten hits of a query.
"""

from collections.abc import Callable
from operator import eq

import numpy as np
from numpy.typing import NDArray

from ragkit.index.exact import Found
from ragkit.index.reader import Index

# So many passages of one score are looked at to find those with the smallest ids; of more, the
# ones that were indexed first are taken.
MAX_TIED = 1024

FEW_QUERIES = 16

Search = Callable[..., Found]
"""`Index.search` with all but the queries, `k` and `any_tied` given."""

Ranked = tuple[list[float], list[int]]
"""Scores and rows of one query, best first."""


def search_in_order(
    search: Search, index: Index, queries: NDArray[np.float32], *, k: int
) -> list[Ranked]:
    """The `k` best passages of each query, or fewer if fewer are found."""
    scores, rows = search(queries, min(k + 1, len(index)), any_tied=True)
    ranked = list(zip(scores.tolist(), rows.tolist(), strict=True))
    tied = _tied(scores, ranked)
    over = [i for i in tied if _runs_over(*ranked[i], k)]
    if over:
        scores, rows = search(queries[over], min(k + MAX_TIED, len(index)))
        for i, found, places in zip(over, scores.tolist(), rows.tolist(), strict=True):
            ranked[i] = found, places
    for i in tied:
        ranked[i] = _by_id(index, *ranked[i])
    if scores.shape[1] <= k:
        return ranked
    return [(found[:k], places[:k]) for found, places in ranked]


def _tied(scores: NDArray[np.float32], ranked: list[Ranked]) -> list[int]:
    """The queries that have two hits of one score."""
    if len(ranked) > FEW_QUERIES:
        places: list[int] = np.flatnonzero((scores[:, 1:] == scores[:, :-1]).any(axis=1)).tolist()
        return places
    return [i for i, (found, _) in enumerate(ranked) if any(map(eq, found, found[1:]))]


def _runs_over(scores: list[float], rows: list[int], k: int) -> bool:
    """Whether the first hit left out has the score of the last one taken."""
    return len(rows) > k and rows[k] >= 0 and scores[k] == scores[k - 1]


def _by_id(index: Index, scores: list[float], rows: list[int]) -> Ranked:
    """The hits without empty slots, those of equal score in the order of their ids."""
    found = [(score, row) for score, row in zip(scores, rows, strict=True) if row >= 0]
    ids = index.values("id", [row for _, row in found])
    order = sorted(range(len(found)), key=lambda i: (-found[i][0], ids[i]))
    return [found[i][0] for i in order], [found[i][1] for i in order]
