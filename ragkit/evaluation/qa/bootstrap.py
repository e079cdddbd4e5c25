"""Intervals of means over questions, by the percentile bootstrap (Efron and Tibshirani 1993)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import ConfigError, DataError

DEFAULT_RESAMPLES = 10_000
DEFAULT_LEVEL = 0.95
CHUNK_DRAWS = 1 << 22
"""Questions that are drawn at a time: 64 MiB of indices and counts."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over questions, and where it would lie had other such questions been asked.

    Args:
        low: Lower end of the interval.
        high: Upper end.
        questions: Questions that the mean is over.
    """

    mean: float
    low: float
    high: float
    questions: int


def bootstrap_means(
    values: Mapping[str, Sequence[float] | NDArray[np.float64]],
    *,
    generator: np.random.Generator,
    resamples: int = DEFAULT_RESAMPLES,
    level: float = DEFAULT_LEVEL,
) -> dict[str, Estimate]:
    """The mean of each metric with its interval.

    Questions are drawn with replacement, as many as there are, and the interval leaves out the
    same share of the drawn means at either end. All metrics see the same draws.

    Args:
        values: One value per question by metric, each `[questions]`; all of the same questions.
        level: Share of the drawn means within the interval.

    Raises:
        ConfigError: `resamples` is below 1, or `level` is not between 0 and 1.
        DataError: There is no question, the metrics differ in their number, or a value is not
            finite.
    """
    if resamples < 1 or not 0 < level < 1:
        raise ConfigError(
            f"resamples must be 1 or more and level between 0 and 1, got {resamples=}, {level=}"
        )
    table = _table(values)  # [metrics, questions]
    drawn = _draw_means(table, generator=generator, resamples=resamples)  # [metrics, resamples]
    tail = (1 - level) / 2
    lows, highs = np.quantile(drawn, [tail, 1 - tail], axis=1)  # each [metrics]
    return {
        name: Estimate(float(mean), float(low), float(high), table.shape[1])
        for name, mean, low, high in zip(values, table.mean(axis=1), lows, highs, strict=True)
    }


def bootstrap_differences(
    values: Mapping[str, Sequence[float] | NDArray[np.float64]],
    base: Mapping[str, Sequence[float] | NDArray[np.float64]],
    *,
    generator: np.random.Generator,
    resamples: int = DEFAULT_RESAMPLES,
    level: float = DEFAULT_LEVEL,
) -> dict[str, Estimate]:
    """The mean of `values - base` by metric, with its interval, question by question.

    Narrower than two intervals side by side where the same questions are hard for both.

    Args:
        base: Of the same questions in the same order, with the same metrics.

    Raises:
        ConfigError, DataError: As for `bootstrap_means`, or the two differ in metrics or questions.
    """
    ours, theirs = _table(values), _table(base)
    if list(values) != list(base) or ours.shape != theirs.shape:
        raise DataError(
            f"expected the same metrics of the same questions, found {', '.join(values)} of "
            f"{ours.shape[1]} and {', '.join(base)} of {theirs.shape[1]}: pair them first"
        )
    gains = dict(zip(values, ours - theirs, strict=True))
    return bootstrap_means(gains, generator=generator, resamples=resamples, level=level)


def _table(values: Mapping[str, Sequence[float] | NDArray[np.float64]]) -> NDArray[np.float64]:
    """All values, `[metrics, questions]`."""
    lengths = {name: len(row) for name, row in values.items()}
    if len({*lengths.values()}) != 1 or 0 in lengths.values():
        raise DataError(
            "expected one value per question for every metric, and one question or more, found "
            f"{lengths}: estimate metrics of other questions apart"
        )
    table = np.array(list(values.values()), np.float64)
    if not np.isfinite(table).all():
        raise DataError("a value of a question is not finite: leave out what cannot be scored")
    return table


def _draw_means(
    table: NDArray[np.float64], *, generator: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """The means of every draw, `[metrics, resamples]`."""
    questions = table.shape[1]
    size = max(1, CHUNK_DRAWS // questions)
    parts = []
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        drawn = generator.integers(questions, size=(rows, questions))
        # How often each draw has each question: the sums are then one matrix product.
        drawn += np.arange(rows)[:, None] * questions
        counts = np.bincount(drawn.ravel(), minlength=rows * questions)
        parts.append(table @ counts.reshape(rows, questions).T)
    return np.concatenate(parts, axis=1) / questions
