"""Records that travel between the layers: documents in, passages through, hits out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Metadata = Mapping[str, Any]
"""JSON values by key."""

Role = Literal["query", "passage"]
"""Which side of the search a text is on: encoders may treat the two differently."""

Metric = Literal["cosine", "ip", "l2"]
"""How two vectors are compared; a score is always larger for a better match (`l2` is negated)."""


@dataclass(frozen=True, slots=True)
class Document:
    """One unit of the input.

    Args:
        id: Unique in the corpus.
        kind: `record` for a row of a table, which is a passage already; `file` for prose to cut.
        source: Path or URI, and the line or byte offset where the document starts.
    """

    id: str
    text: str
    title: str = ""
    meta: Metadata = field(default_factory=dict)
    source: str = ""
    kind: Literal["record", "file"] = "record"


@dataclass(frozen=True, slots=True)
class Passage:
    """One unit of the index: what is embedded and returned.

    Args:
        id: `doc_id#chunk`, or the document's own id if the document is one passage.
        chunk: Position within the document, from 0.
        start: First character in the document's text, so that `text == document.text[start:end]`.
        end: One past the last character.
        num_tokens: Tokens as embedded, special tokens and prefix included; 0 if not counted.
        truncated: Whether the encoder saw only the head of the text.
    """

    id: str
    doc_id: str
    text: str
    title: str = ""
    chunk: int = 0
    start: int = 0
    end: int = 0
    num_tokens: int = 0
    truncated: bool = False
    source: str = ""
    meta: Metadata = field(default_factory=dict)
