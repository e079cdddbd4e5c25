"""What a search returns: hits in order, whose texts are read when they are asked for."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.index.passages import SCHEMA
from ragkit.index.reader import Index

# pyarrow makes a new list of names each time it is asked.
_NAMES = frozenset(SCHEMA.names)


class Columns:
    """The passages that one call found: a column is an attribute, read once, for all of them."""

    def __init__(self, index: Index, rows: list[int]) -> None:
        self._index, self._rows = index, rows

    def __getattr__(self, name: str) -> list[Any]:
        """The values of a column; Python asks only for what was not read yet."""
        if name not in _NAMES:
            raise AttributeError(name)
        values = self._index.values(name, self._rows)
        setattr(self, name, values)
        return values

    def vector_at(self, place: int) -> NDArray[np.float32]:
        """The stored vector of one hit, `[dim]`."""
        return self._index.vectors(np.array([self._rows[place]]))[0]


class Hit:
    """One passage that matches a query.

    Args:
        score: Larger is better; see `Hits.score_kind`.
        rank: 1 for the best.
        row: Number of the passage in this generation of the index; do not store it.
    """

    __slots__ = ("_columns", "_place", "rank", "row", "score")

    def __init__(self, columns: Columns, place: int, rank: int, score: float, row: int) -> None:
        self._columns, self._place = columns, place
        self.rank, self.score, self.row = rank, score, row

    @property
    def id(self) -> str:
        """The passage's id."""
        return self._columns.id[self._place]

    @property
    def doc_id(self) -> str:
        """The id of the document that the passage was cut from."""
        return self._columns.doc_id[self._place]

    @property
    def text(self) -> str:
        """The passage."""
        return self._columns.text[self._place]

    @property
    def title(self) -> str:
        """The document's title."""
        return self._columns.title[self._place]

    @property
    def start(self) -> int:
        """First character of the passage in its document."""
        return self._columns.start[self._place]

    @property
    def end(self) -> int:
        """One past the passage's last character in its document."""
        return self._columns.end[self._place]

    @property
    def source(self) -> str:
        """File and line that the document came from."""
        return self._columns.source[self._place]

    @property
    def meta(self) -> dict[str, Any]:
        """The document's other fields."""
        return json.loads(self._columns.meta[self._place])

    @property
    def scores(self) -> dict[str, float]:
        """The score of each arm of the search that found the passage."""
        return {"dense": self.score}

    @property
    def vector(self) -> NDArray[np.float32]:
        """The passage's stored vector, `[dim]`."""
        return self._columns.vector_at(self._place)

    def as_dict(self) -> dict[str, Any]:
        """The hit as JSON values."""
        names = ("rank", "id", "doc_id", "score", "title", "text", "meta")
        return {name: getattr(self, name) for name in names}

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 60 else f"{self.text[:57]}..."
        return f"Hit(rank={self.rank}, id={self.id!r}, score={self.score:.4f}, text={text!r})"


class Hits(list[Hit]):
    """The hits of one query, best first.

    Args:
        query: The text, or `None` for a query by vector.
        score_kind: `cosine`, `ip`, or `-l2^2` (negative squared distance).
        took_ms: Milliseconds of the call that found them, by step; a batch is timed as a whole.
        exact: Whether every passage was compared with the query.
    """

    __slots__ = ("exact", "generation", "query", "score_kind", "took_ms")

    def __init__(
        self,
        hits: Iterable[Hit] = (),
        *,
        query: str | None,
        score_kind: str,
        took_ms: dict[str, float],
        generation: int,
        exact: bool,
    ) -> None:
        super().__init__(hits)
        self.query, self.score_kind, self.took_ms = query, score_kind, took_ms
        self.generation, self.exact = generation, exact
