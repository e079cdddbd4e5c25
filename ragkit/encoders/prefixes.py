"""What is put before a text so that the model knows a query from a passage."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ragkit.types import Role

logger = logging.getLogger(__name__)

_SEARCH = "Represent this sentence for searching relevant passages: "
_SEARCH_ZH = (
    "\u4e3a\u8fd9\u4e2a\u53e5\u5b50\u751f\u6210\u8868\u793a"
    "\u4ee5\u7528\u4e8e\u68c0\u7d22\u76f8\u5173\u6587\u7ae0\uff1a"
)
_TASK = "Instruct: Given a web search query, retrieve relevant passages that answer the query\n"

# Model names, most special first, with what their authors train with: query and passage prefix.
_TABLE: tuple[tuple[str, str, str], ...] = (
    (r"e5.*(instruct|mistral)", f"{_TASK}Query: ", ""),
    (r"(^|[/_-])e5([_-]|$)", "query: ", "passage: "),
    (r"bge-(small|base|large)-en", _SEARCH, ""),
    (r"bge-(small|base|large)-zh", _SEARCH_ZH, ""),
    (r"nomic-embed-text|modernbert-embed", "search_query: ", "search_document: "),
    (r"arctic-embed.*v2", "query: ", ""),
    (r"arctic-embed|mxbai-embed-large", _SEARCH, ""),
    (r"gte-qwen2|qwen3-embedding", f"{_TASK}Query:", ""),
    (r"embeddinggemma", "task: search result | query: ", "title: none | text: "),
)
_PASSAGE_PROMPTS = ("document", "passage", "corpus")


@dataclass(frozen=True, slots=True)
class Prefixes:
    """The prefix of each role.

    Args:
        source: Where they come from: `argument`, `model`, `table` (by the model's name) or `none`.
    """

    query: str
    passage: str
    source: str

    def of(self, role: Role) -> str:
        """What precedes a text of this role."""
        return self.query if role == "query" else self.passage


NO_PREFIXES = Prefixes("", "", "none")


def choose_prefixes(
    names: Sequence[str],
    prompts: Mapping[str, str],
    *,
    query: str | None = None,
    passage: str | None = None,
) -> Prefixes:
    """Prefixes by argument, else from the model's prompts, else by the model's name.

    Args:
        names: What the model is called: the name it was asked for by and the one in its files.
        prompts: The model's own; empty ones count as absent, since saving a model writes them.
        query: `""` switches the prefix off, `None` leaves the choice to the model.
        passage: As `query`.
    """
    listed = _look_up(names)
    chosen = _from_prompts(prompts) or listed or NO_PREFIXES
    if query is None and passage is None:
        return chosen
    if listed:
        _warn_if_missing(names[0], "query", query, listed.query)
        _warn_if_missing(names[0], "passage", passage, listed.passage)
    return Prefixes(
        chosen.query if query is None else query,
        chosen.passage if passage is None else passage,
        "argument",
    )


def _warn_if_missing(name: str, role: Role, given: str | None, usual: str) -> None:
    if given == "" and usual:
        logger.warning(
            "%s runs without a %s prefix but was trained with %r: expect worse hits",
            name,
            role,
            usual,
        )


def _from_prompts(prompts: Mapping[str, str]) -> Prefixes | None:
    query = prompts.get("query", "")
    passage = next((prompts[name] for name in _PASSAGE_PROMPTS if prompts.get(name)), "")
    return Prefixes(query, passage, "model") if query or passage else None


def _look_up(names: Sequence[str]) -> Prefixes | None:
    for pattern, query, passage in _TABLE:
        if any(re.search(pattern, name.lower().replace("_", "-")) for name in names):
            return Prefixes(query, passage, "table")
    return None
