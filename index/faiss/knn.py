"""The nearest rows of one block of vectors, by faiss's exhaustive comparison on one thread."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
from numpy.typing import NDArray

from ragkit.index.faiss.runtime import load, matrix_products_from, openmp_threads
from ragkit.types import Metric

ROWS_PER_PRODUCT = 1024
"""So many does faiss multiply at a time: cutting elsewhere may change a score's last bit."""

MATRIX_PRODUCTS_FROM_QUERIES = 4
"""From here on one matrix product beats a pass over the rows for each query."""


def knn(
    queries: NDArray[np.float32], block: NDArray[np.float32], *, k: int, metric: Metric
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores and rows of the `k` best rows of `block`, both `[queries, k]`, best first.

    Where there are not `k` rows with a finite score, the row is -1 and the score -inf. Equal
    scores come in no particular order.

    Args:
        queries: `[queries, dim]`.
        block: `[rows, dim]`, read in place.
    """
    faiss = load()
    if metric == "l2":
        return _knn_l2(queries, block, k=k)
    with openmp_threads(1), products_for(len(queries), dim=queries.shape[1]):
        found: tuple[NDArray[np.float32], NDArray[np.int64]] = faiss.knn(
            queries, block, k, metric=faiss.METRIC_INNER_PRODUCT
        )
    return found


def products_for(num_queries: int, *, dim: int) -> AbstractContextManager[None]:
    """Lets faiss compare by matrix products if the batch is worth it."""
    if num_queries < MATRIX_PRODUCTS_FROM_QUERIES:
        return nullcontext()
    return matrix_products_from(MATRIX_PRODUCTS_FROM_QUERIES, dim=dim)


def merge(
    found: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best of several results, each `[queries, k]`, best first, as one of the same shape."""
    if len(found) == 1:
        return found[0]
    scores, rows = np.stack([part[0] for part in found]), np.stack([part[1] for part in found])
    with openmp_threads(1):
        merged: tuple[NDArray[np.float32], NDArray[np.int64]] = load().merge_knn_results(
            scores, rows, keep_max=True
        )
    return merged


def _knn_l2(
    queries: NDArray[np.float32], block: NDArray[np.float32], *, k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """As `knn`, by differences: the matrix form |x|^2 - 2xy + |y|^2 loses the digits that count."""
    faiss = load()
    batch = max(1, faiss.cvar.distance_compute_blas_threshold // queries.shape[1] - 1)
    parts = [queries[start : start + batch] for start in range(0, len(queries), batch)]
    with openmp_threads(1):
        found = [faiss.knn(part, block, k, metric=faiss.METRIC_L2) for part in parts]
    distances = np.concatenate([part[0] for part in found])
    rows = np.concatenate([part[1] for part in found])
    return np.where(rows < 0, -np.inf, 0.0 - distances).astype(np.float32), rows
