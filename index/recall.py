"""How much of the truth an approximate search finds, and how fast."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragkit.index.exact import Found, rescore, search_exact
from ragkit.index.vectors import Vectors
from ragkit.types import Metric

Search = Callable[[NDArray[np.float32], int], Found]
"""Queries `[queries, dim]` and k to scores and rows."""

RECALL_CUTS = (1, 10, 100)
BOOTSTRAP_SAMPLES = 1_000
TIMED_QUERIES = 50
TIE_TOLERANCE = 1e-6
"""Relative: two ways to compute one inner product in fp32 agree to this."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What a self-check found; `dataclasses.asdict` gives JSON values.

    Args:
        recall: Share of the true nearest rows found, by cut ("1", "10", "100", and `k`).
        interval: 95 % bootstrap interval of the recall at `k`.
        self_hit_rate: Share of queries that found the row they were made from among `k`.
        empty_slots: Share of result slots that stayed empty.
        p50_ms: Median time of one query alone.
    """

    queries: int
    k: int
    recall: dict[str, float]
    interval: tuple[float, float]
    self_hit_rate: float | None
    empty_slots: float
    p50_ms: float
    p95_ms: float


def ground_truth(
    vectors: Vectors,
    queries: NDArray[np.float32],
    *,
    k: int,
    metric: Metric,
    threads: int | None = None,
) -> Found:
    """Scores and rows of the true `k` best rows of each query, best first."""
    return search_exact(vectors, queries, k=k, metric=metric, threads=threads)


def recall_at(found: Found, truth: Found) -> NDArray[np.float64]:
    """Share of the truth that each query found, `[queries]`; a tie with the last true row counts.

    Args:
        found: Exact scores and rows, in any order; row -1 is an empty slot.
        truth: At least one row per query.
    """
    scores, rows = found
    true_scores, true_rows = truth
    width = true_rows.shape[1]
    last = true_scores[:, -1:]
    as_good = scores >= last - TIE_TOLERANCE * np.abs(last)
    among = (rows[:, :, None] == true_rows[:, None, :]).any(2)
    good = ((among | as_good) & (rows >= 0)).sum(1)
    return np.minimum(good, width) / width


def bootstrap_interval(
    values: NDArray[np.float64], *, rng: np.random.Generator
) -> tuple[float, float]:
    """The range that holds the mean of `values` with 95 % confidence."""
    picks = rng.integers(len(values), size=(BOOTSTRAP_SAMPLES, len(values)))
    low, high = np.percentile(values[picks].mean(1), [2.5, 97.5])
    return float(low), float(high)


def measure_quality(
    search: Search,
    vectors: Vectors,
    queries: NDArray[np.float32],
    *,
    own_rows: NDArray[np.int64] | None,
    k: int,
    metric: Metric,
    rng: np.random.Generator,
) -> Quality:
    """Compare `search` with exhaustive search, and time it.

    Args:
        queries: `[queries, dim]`, at least one.
        own_rows: `[queries]` the row that each query was made from, if there is one.
        k: The cut whose interval, self-hits and empty slots are reported.
        rng: Draws the bootstrap samples.
    """
    most = min(len(vectors), max(k, *RECALL_CUTS))
    truth = ground_truth(vectors, queries, k=most, metric=metric)
    at_k = min(k, most)
    recalls, rows = {}, {}
    for cut in sorted({cut for cut in (*RECALL_CUTS, at_k) if cut <= most}):
        rows[cut] = search(queries, cut)[1]
        exact = rescore(vectors, queries, rows[cut], metric=metric)
        recalls[cut] = recall_at(exact, (truth[0][:, :cut], truth[1][:, :cut]))
    own = None if own_rows is None else float((rows[at_k] == own_rows[:, None]).any(1).mean())
    p50_ms, p95_ms = _time_single(search, queries[:TIMED_QUERIES], k=at_k)
    return Quality(
        queries=len(queries),
        k=at_k,
        recall={str(cut): round(float(values.mean()), 4) for cut, values in recalls.items()},
        interval=bootstrap_interval(recalls[at_k], rng=rng),
        self_hit_rate=own,
        empty_slots=float((rows[at_k] < 0).mean()),
        p50_ms=p50_ms,
        p95_ms=p95_ms,
    )


def _time_single(search: Search, queries: NDArray[np.float32], *, k: int) -> tuple[float, float]:
    """Median and 95th percentile, in ms, of queries searched one by one."""
    times_ms = []
    for i in range(len(queries)):
        started = time.perf_counter()
        search(queries[i : i + 1], k)
        times_ms.append(1e3 * (time.perf_counter() - started))
    p50, p95 = np.percentile(times_ms, [50, 95])
    return round(float(p50), 3), round(float(p95), 3)
