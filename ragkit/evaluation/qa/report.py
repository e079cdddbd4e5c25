"""What an evaluation of answers found, as JSON, as a table and as files."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from ragkit.errors import DataError
from ragkit.evaluation.qa.bootstrap import (
    DEFAULT_LEVEL,
    DEFAULT_RESAMPLES,
    Estimate,
    bootstrap_means,
)
from ragkit.evaluation.qa.predictions import Prediction, write_predictions
from ragkit.storage import durable_file, make_folder

SCHEMA = "ragkit.eval_qa/1"
REPORT_FILE, ANSWERS_FILE = "report.json", "answers.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """How the answers came about: without it a figure compares with no other.

    Args:
        split: The data set and which part of it.
        corpus_date: When the text that is searched was taken; empty if unknown.
        k: Passages per question; 0 for closed book.
        mode: How the passages are combined.
        template_hash: Fingerprint of the prompt template.
        num_shots: Demonstrations before each question.
        cuts: What was left out of prompts that were too long, counted by kind.
    """

    split: str
    corpus_date: str
    k: int
    mode: str
    template_hash: str
    num_shots: int = 0
    cuts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QaReport:
    """How good some answers are.

    Args:
        rules: The name of what they were scored by.
        metrics: Means over the questions that a metric applies to, 0 to 1, with intervals.
        predictions: The answers with their scores, in the order of the questions.
        counts: Questions, and those that a reader of the means should know of.
        seed: What the draws of the intervals began with.
        facts: `None` if unknown.
    """

    rules: str
    metrics: Mapping[str, Estimate]
    predictions: Sequence[Prediction]
    counts: Mapping[str, int]
    seed: int
    facts: RunFacts | None = None


def make_report(
    predictions: Sequence[Prediction],
    *,
    rules: str,
    counts: Mapping[str, int],
    seed: int,
    facts: RunFacts | None = None,
) -> QaReport:
    """The report of predictions that are scored.

    Raises:
        DataError: There is none, or an id comes twice.
    """
    if not predictions:
        raise DataError("no answer to evaluate: expected at least one question with its answer")
    [(name, times)] = Counter(each.id for each in predictions).most_common(1)
    if times > 1:
        raise DataError(f"the id {name!r} comes {times} times: keep one question of each id")
    counts = {"questions": len(predictions), **counts}
    return QaReport(rules, _estimate(predictions, seed=seed), predictions, counts, seed, facts)


def scores_by_metric(predictions: Iterable[Prediction]) -> dict[str, dict[str, float]]:
    """The score of each question by metric and id."""
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    for prediction in predictions:
        for name, score in prediction.scores.items():
            scores[name][prediction.id] = score
    return dict(scores)


def to_json(report: QaReport) -> dict[str, Any]:
    """The means, intervals and how they came about, `schema` first; keys are only ever added."""
    return {
        "schema": SCHEMA,
        "rules": report.rules,
        "metrics": {name: asdict(estimate) for name, estimate in report.metrics.items()},
        "counts": dict(report.counts),
        "intervals": {
            "level": DEFAULT_LEVEL,
            "resamples": DEFAULT_RESAMPLES,
            "seed": report.seed,
        },
        "run": None if report.facts is None else asdict(report.facts),
    }


def to_table(report: QaReport, *, title: str = "") -> Table:
    """One row per metric with its mean and interval in points of 100, then the counts."""
    table = Table(title=Text(title) if title else None)
    table.add_column("metric")
    table.add_column("points", justify="right")
    table.add_column(f"{DEFAULT_LEVEL:.0%} interval", justify="right")
    for name, estimate in report.metrics.items():
        interval = f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f}"
        table.add_row(name, f"{100 * estimate.mean:.1f}", interval)
    table.add_section()
    for name, count in report.counts.items():
        table.add_row(name, str(count), "")
    return table


def save_report(report: QaReport, folder: Path) -> None:
    """Write `report.json` and `answers.jsonl`, one line per question, below `folder`.

    Raises:
        StorageError: The disk is full, read-only or failing.
    """
    make_folder(folder)
    write_predictions(folder / ANSWERS_FILE, report.predictions)
    with durable_file(folder / REPORT_FILE) as file:
        file.write(json.dumps(to_json(report), indent=1, allow_nan=False).encode() + b"\n")


def _estimate(predictions: Sequence[Prediction], *, seed: int) -> dict[str, Estimate]:
    """The mean of every metric, in the order in which they first come."""
    scores = scores_by_metric(predictions)
    # Metrics of the same questions share their draws, and the time that these take.
    alike: dict[tuple[str, ...], dict[str, NDArray[np.float64]]] = defaultdict(dict)
    for name, by_id in scores.items():
        alike[tuple(by_id)][name] = np.array(list(by_id.values()))
    found: dict[str, Estimate] = {}
    for values in alike.values():
        found |= bootstrap_means(values, generator=np.random.default_rng(seed))
    return {name: found[name] for name in scores}
