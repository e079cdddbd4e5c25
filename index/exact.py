"""Exact search over mapped vectors: every row is compared, ties go to the smaller row.

Results do not depend on the number of threads: rows are cut where the underlying matrix product
cuts them anyway, and each piece is computed by one thread.
"""

import functools
from operator import eq

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import ConfigError, ShapeError
from ragkit.index.faiss.knn import ROWS_PER_PRODUCT, knn, merge
from ragkit.index.threads import resolve_threads, run_all
from ragkit.index.vectors import KEPT_VALUES, Vectors
from ragkit.types import Metric

Found = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Scores and rows, both `[queries, k]`, best first."""

VALUES_PER_BLOCK = 1 << 21
"""Decoded at a time, so that the values are still in the cache when they are compared."""

VALUES_PER_THREAD = 1 << 22
"""Below this much work another thread costs more than it brings."""

COMPILE_ABOVE_VALUES = KEPT_VALUES
"""Below, one pass takes so little time that starting a compiler would not pay."""

VALUES_PER_GATHER = 1 << 22
FOUND_PER_RETRY = 1 << 22
RETRY_FACTOR = 8


def search_exact(
    vectors: Vectors,
    queries: NDArray[np.float32],
    *,
    k: int,
    metric: Metric,
    threads: int | None = None,
    any_tied: bool = False,
) -> Found:
    """The `k` best rows of each query, or all rows if there are fewer; larger scores are better.

    A score is the inner product for `ip` and `cosine` (vectors and queries have length 1 there),
    the negative squared distance for `l2`. Equal scores are ordered by row. A score that is not
    finite is never found: its slot holds row -1 and -inf.

    Args:
        queries: `[queries, dim]`, finite.
        threads: At most; all physical cores if left out.
        any_tied: Leave equal scores as they come, and any of those that tie for the last place:
            for a caller that looks at the ties himself.

    Raises:
        ConfigError: `k` or `threads` is below 1.
        ShapeError: The queries are not as wide as the vectors.
    """
    if k < 1:
        raise ConfigError(f"k must be at least 1, got {k}")
    queries = _checked(queries, vectors.dim)
    width = min(k, len(vectors))
    if width == 0 or len(queries) == 0:
        return no_hits(len(queries), width)
    threads, vectors = resolve_threads(threads), vectors.decoded()
    scan = functools.partial(_scan, vectors, metric=metric, threads=threads)
    if any_tied:
        return scan(queries, k=width)
    # One more than asked for shows whether a tie crosses the border.
    scores, rows = scan(queries, k=min(width + 1, len(vectors)))
    if not _has_ties(scores):
        return scores[:, :width], rows[:, :width]
    cut = _cut_ties(scores, width)
    if cut.size:
        scores[cut, :width], rows[cut, :width] = _widen(scan, queries[cut], width, len(vectors))
    return _by_row(scores[:, :width], rows[:, :width])


def no_hits(num_queries: int, width: int) -> Found:
    """Results to be filled, or of a search without queries or rows."""
    return np.empty((num_queries, width), np.float32), np.empty((num_queries, width), np.int64)


def rescore(
    vectors: Vectors, queries: NDArray[np.float32], rows: NDArray[np.int64], *, metric: Metric
) -> Found:
    """The given rows, `[queries, candidates]`, with exact scores, best first; row -1 has -inf."""
    scores = np.empty(rows.shape, np.float32)
    step = max(1, VALUES_PER_GATHER // max(1, rows.shape[1] * vectors.dim))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        scores[part] = _compare(vectors, queries[part], rows[part], metric)
    order = np.lexsort((rows, -scores))
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


def _checked(queries: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise ShapeError(
            f"queries must be [queries, {dim}] like the vectors of the index, got {queries.shape}: "
            "embed them with the encoder of the index"
        )
    return np.ascontiguousarray(queries, np.float32)


def _compare(
    vectors: Vectors, queries: NDArray[np.float32], rows: NDArray[np.int64], metric: Metric
) -> NDArray[np.float32]:
    values = vectors.take(np.maximum(rows, 0).reshape(-1)).reshape(*rows.shape, vectors.dim)
    if metric == "l2":
        values = values - queries[:, None, :]
        scores = 0.0 - np.einsum("qcd,qcd->qc", values, values)
    else:
        scores = np.einsum("qcd,qd->qc", values, queries)
    return np.where(rows < 0, np.float32(-np.inf), scores)


def _scan(
    vectors: Vectors, queries: NDArray[np.float32], *, k: int, metric: Metric, threads: int
) -> Found:
    """The `k` best rows: equal scores in any order, and any of those that tie for last place."""
    work = len(vectors) * vectors.dim * max(1, len(queries) // 8)
    num_pieces = max(1, min(threads, work // VALUES_PER_THREAD))
    pieces = _cut_rows(len(vectors), num_pieces)
    tasks = [
        functools.partial(_scan_piece, vectors, queries, p, k=k, metric=metric) for p in pieces
    ]
    found = [result for results in run_all(tasks, threads=threads) for result in results]
    return merge(found)


def _scan_piece(
    vectors: Vectors, queries: NDArray[np.float32], piece: range, *, k: int, metric: Metric
) -> list[Found]:
    """Results of each block of one thread's rows."""
    if len(queries) == 1 and metric != "l2" and vectors.stored.size > COMPILE_ABOVE_VALUES:
        scores, rows = vectors.best_rows(queries[0], piece.start, piece.stop, k=k)
        return [(scores[None], rows[None])]
    found = []
    step = len(piece) if vectors.plain else _rows_per_block(vectors.dim)
    buffer = None if vectors.plain else np.empty((min(step, len(piece)), vectors.dim), np.float32)
    for start in range(piece.start, piece.stop, step):
        stop = min(start + step, piece.stop)
        block = vectors.read(start, stop, out=None if buffer is None else buffer[: stop - start])
        scores, rows = knn(queries, block, k=k, metric=metric)
        found.append((scores, np.where(rows < 0, rows, rows + start) if start else rows))
    return found


def _rows_per_block(dim: int) -> int:
    return max(1, VALUES_PER_BLOCK // dim // ROWS_PER_PRODUCT) * ROWS_PER_PRODUCT


def _cut_rows(rows: int, pieces: int) -> list[range]:
    """At most `pieces` runs of rows of about equal length, cut at multiples of a product's rows."""
    step = -(-rows // (pieces * ROWS_PER_PRODUCT)) * ROWS_PER_PRODUCT
    return [range(start, min(start + step, rows)) for start in range(0, rows, step)]


def _has_ties(scores: NDArray[np.float32]) -> bool:
    """Whether neighbours are equal in any row; most results have no ties and are done."""
    if len(scores) == 1:
        # After a sweep over memory the caches are cold, and a loop over a list beats numpy.
        [found] = scores.tolist()
        return any(map(eq, found, found[1:]))
    return bool((scores[:, 1:] == scores[:, :-1]).any())


def _cut_ties(scores: NDArray[np.float32], width: int) -> NDArray[np.intp]:
    """Queries whose `width`-th score is also the next one's, so that more rows must be seen."""
    if scores.shape[1] <= width:
        return np.empty(0, np.intp)
    border = scores[:, width]
    return np.flatnonzero((scores[:, width - 1] == border) & (border > -np.inf))


def _widen(
    scan: functools.partial[Found], queries: NDArray[np.float32], width: int, num_rows: int
) -> Found:
    """The `width` best rows of queries whose ties fall across the border."""
    scores, rows = no_hits(len(queries), width)
    left, seen = np.arange(len(queries)), width + 1
    while left.size:
        seen = min(seen * RETRY_FACTOR, num_rows)
        tied = []
        for part in np.array_split(left, -(-left.size * seen // FOUND_PER_RETRY)):
            wide_scores, wide_rows = _by_row(*scan(queries[part], k=seen))
            scores[part], rows[part] = wide_scores[:, :width], wide_rows[:, :width]
            if seen < num_rows:
                last = wide_scores[:, -1]
                tied.append(part[(last == wide_scores[:, width - 1]) & (last > -np.inf)])
        left = np.concatenate(tied) if tied else left[:0]
    return scores, rows


def _by_row(scores: NDArray[np.float32], rows: NDArray[np.int64]) -> Found:
    """The same results, equal scores ordered by row."""
    order = np.lexsort((rows, -scores))
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
