"""Finds the cheapest search parameters that reach a recall.

Cost is counted in rows looked at, not timed, so that the same data gives the same parameters.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ragkit.index.exact import Found, rescore
from ragkit.index.faiss.ann import AnnIndex
from ragkit.index.recall import recall_at
from ragkit.index.vectors import Vectors

ROWS_PER_GRAPH_STEP = 32
ROWS_PER_RESCORE = 8
"""A row gathered from anywhere and scored exactly costs as much as so many scanned ones."""

PLATEAU = 0.002
"""Twice the effort for less recall than this: the codes are the limit, not the effort."""


@dataclass(frozen=True, slots=True)
class Point:
    """One setting and what it finds."""

    params: dict[str, int]
    recall: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """The outcome of `tune`.

    Args:
        params: The cheapest setting that reaches the target, or the best one tried.
        curve: All settings tried, cheapest first.
    """

    params: dict[str, int]
    recall: float
    target: float
    curve: tuple[Point, ...] = field(repr=False)

    @property
    def reached(self) -> bool:
        """Whether the target was met."""
        return self.recall >= self.target

    def explain(self) -> str:
        """What was expected and found, for a message."""
        setting = ", ".join(f"{name}={value}" for name, value in self.params.items()) or "no choice"
        return f"expected recall {self.target}, found {self.recall:.4f} at best ({setting})"


def tune(
    ann: AnnIndex,
    vectors: Vectors,
    queries: NDArray[np.float32],
    truth: Found,
    *,
    k: int,
    recall: float,
    keep_vectors: bool = True,
) -> Tuning:
    """The cheapest parameters with which `ann` reaches `recall` at `k`.

    Args:
        queries: `[queries, dim]`.
        truth: Scores and rows of the true best rows, at least `k` of each query, or all.
        recall: Target, in (0, 1].
        keep_vectors: Whether searches will have the vectors at hand, to re-score with.
    """
    kept = vectors if keep_vectors else None
    truth = (truth[0][:, :k], truth[1][:, :k])

    def measure(params: dict[str, int]) -> float:
        rows = ann.search(queries, k=k, params=params, vectors=kept)[1]
        return float(recall_at(rescore(vectors, queries, rows, metric=ann.metric), truth).mean())

    trials = _Trials(ann, measure, k=k, target=recall)
    rescores = keep_vectors or ann.structure.refines
    factors = _doublings(ann.parameters.get("refine_factor", 1) if rescores else 1)
    best = math.inf
    for factor in factors:
        effort = trials.cheapest_effort(factor, thorough=factor == factors[-1])
        if effort is not None:
            cost = trials.cost(effort, factor)
            if cost >= best:
                break  # from here on re-scoring costs more than it saves
            best = cost
    return trials.tuning()


class _Trials:
    """Searches with different settings and remembers what each found."""

    def __init__(
        self, ann: AnnIndex, measure: Callable[[dict[str, int]], float], *, k: int, target: float
    ) -> None:
        self._ann, self._measure, self._k, self._target = ann, measure, k, target
        self._effort = next((name for name in ("nprobe", "efSearch") if name in ann.parameters), "")
        self._recalls: dict[tuple[int, int], float] = {}
        # A graph keeps at least k candidates anyway, so a smaller effort is the same search.
        most = ann.parameters.get(self._effort, 1)
        self._least = min(k, most) if self._effort == "efSearch" else 1

    def cheapest_effort(self, factor: int, *, thorough: bool) -> int | None:
        """The smallest effort that reaches the target with this refine factor, if one does.

        Args:
            thorough: Whether to go on where twice the effort finds hardly more.
        """
        most = self._ann.parameters.get(self._effort, 1)
        low, effort = 0, self._least
        while self._recall(effort, factor) < self._target:
            stuck = low and self._recall(effort, factor) - self._recall(low, factor) < PLATEAU
            if effort == most or (stuck and not thorough):
                return None
            low, effort = effort, min(2 * effort, most)
        while effort - low > max(1, effort // 16) and effort > self._least:
            middle = (low + effort) // 2
            if self._recall(middle, factor) >= self._target:
                effort = middle
            else:
                low = middle
        return effort

    def cost(self, effort: int, factor: int) -> float:
        """Rows looked at for one query."""
        scanned: float = self._ann.ntotal
        if self._effort == "nprobe":
            lists = self._ann.parameters["nprobe"]
            scanned = lists + effort * self._ann.ntotal / lists
        elif self._effort == "efSearch":
            scanned = effort * ROWS_PER_GRAPH_STEP
        return scanned + factor * self._k * ROWS_PER_RESCORE

    def tuning(self) -> Tuning:
        """The cheapest setting that reached the target, or the best of all."""
        tried = sorted(self._recalls.items(), key=lambda item: (self.cost(*item[0]), item[0]))
        good = [setting for setting, recall in tried if recall >= self._target]
        best = good[0] if good else max(tried, key=lambda item: item[1])[0]
        curve = tuple(Point(self._params(*setting), recall) for setting, recall in tried)
        return Tuning(self._params(*best), self._recalls[best], self._target, curve)

    def _recall(self, effort: int, factor: int) -> float:
        if (effort, factor) not in self._recalls:
            self._recalls[effort, factor] = self._measure(self._params(effort, factor))
        return self._recalls[effort, factor]

    def _params(self, effort: int, factor: int) -> dict[str, int]:
        values = {self._effort: effort, "refine_factor": factor}
        return {name: values[name] for name in self._ann.parameters}


def _doublings(most: int) -> list[int]:
    """1, 2, 4, ... up to `most`."""
    return [1 << i for i in range(most.bit_length())]
