"""A retrieval report as a table for people and as JSON for programs."""

from typing import Any

from rich.table import Table
from rich.text import Text

from ragkit.evaluation.retrieval import RetrievalReport

SCHEMA = "ragkit.eval_retrieval/1"


def to_json(report: RetrievalReport) -> dict[str, Any]:
    """The means and the number of queries, `schema` first; keys are only ever added."""
    return {"schema": SCHEMA, **report.scores, "queries": len(report.per_query)}


def to_table(report: RetrievalReport, *, title: str = "") -> Table:
    """One row per metric with its mean, and the number of queries below."""
    table = Table(title=Text(title) if title else None)
    table.add_column("metric")
    table.add_column("mean", justify="right")
    for name, value in report.scores.items():
        table.add_row(name, f"{value:.4f}")
    table.add_row("queries", str(len(report.per_query)))
    return table
