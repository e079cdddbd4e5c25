"""What a run came to, as a table."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text


def summary_table(summary: Mapping[str, Any], *, title: str) -> Table:
    """A row for each fact of each stage, in the order in which they were found."""
    table = Table(title=Text(title))
    for name in ("round", "stage", "fact"):
        table.add_column(name)
    table.add_column("value", justify="right")
    for number, facts in enumerate(summary["rounds"], start=1):
        for stage, found in facts.items():
            for name, value in _flat(found):
                table.add_row(str(number), stage, name, _shown(value))
        table.add_section()
    for name in ("model", "query_encoder"):
        table.add_row("", name, "", str(summary[name] or "as it was"))
    return table


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}".replace("_", " "), value


def _shown(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
