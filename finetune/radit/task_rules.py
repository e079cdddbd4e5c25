"""How the kinds of tasks differ (Lin et al. 2023, arXiv:2310.01352, appendix C)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Task = Literal[
    "open_qa",
    "multiple_choice",
    "chain_of_thought",
    "dialogue",
    "reading_comprehension",
    "summarization",
    "corpus",
    "text",
]


@dataclass(frozen=True, slots=True)
class TaskRule:
    """How a task differs from others.

    Args:
        retrieves: Passages are looked for; else the background is the record's own, or none.
        has_context: Each record brings its background.
        continues: The target goes on with the query's text: no markers stand around the query.
    """

    retrieves: bool = False
    has_context: bool = False
    continues: bool = False


TASKS: Mapping[Task, TaskRule] = {
    "open_qa": TaskRule(retrieves=True),
    "multiple_choice": TaskRule(retrieves=True),
    "chain_of_thought": TaskRule(retrieves=True),
    "dialogue": TaskRule(retrieves=True),
    "reading_comprehension": TaskRule(has_context=True),
    "summarization": TaskRule(has_context=True),
    "corpus": TaskRule(retrieves=True, continues=True),
    "text": TaskRule(continues=True),
}
