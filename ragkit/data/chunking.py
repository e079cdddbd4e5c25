"""From documents to passages: the chunkers by name, and what they make of a document."""

import re
from dataclasses import dataclass
from functools import lru_cache

from ragkit.data.markdown import DEFAULT_SIZE, MarkdownChunker
from ragkit.data.sentences import SentenceChunker
from ragkit.data.spans import Chunker, Span, TokenCounter, trim
from ragkit.data.text import is_blank
from ragkit.data.tokens import TokenChunker
from ragkit.data.words import MERGE_TAIL, WordChunker
from ragkit.errors import ConfigError
from ragkit.types import Document, Passage

FORMS = "none, words:N[:OVERLAP], tokens:N[:OVERLAP], sentences:Nw, markdown[:N], regex:PATTERN"


@dataclass(frozen=True)
class WholeChunker(Chunker):
    """The whole text as one passage."""

    def cut(self, text: str, *, title: str = "", counter: TokenCounter | None = None) -> list[Span]:
        """The span of the text."""
        span = trim(text, 0, len(text))
        return [span] if span[0] < span[1] else []


@dataclass(frozen=True)
class RegexChunker(Chunker):
    """What stands between the matches of a pattern; a look-ahead such as `(?=Chapter)` keeps all.

    Args:
        pattern: With `^` and `$` at the edges of lines.
    """

    pattern: re.Pattern[str]

    def cut(self, text: str, *, title: str = "", counter: TokenCounter | None = None) -> list[Span]:
        """The spans between the matches."""
        edges = [0]
        for match in self.pattern.finditer(text):
            edges += match.span()
        edges.append(len(text))
        spans = (trim(text, *edge) for edge in zip(edges[::2], edges[1::2], strict=True))
        return [span for span in spans if span[0] < span[1]]


@lru_cache
def parse_chunker(spec: str, *, merge_tail: int = MERGE_TAIL) -> Chunker:
    """The chunker that `spec` describes.

    With `words`, a last block of fewer than `merge_tail` words joins the one before; 0 keeps it.

    Raises:
        ConfigError: `spec` has none of the forms.
    """
    kind, _, rest = spec.partition(":")
    if kind == "regex" and rest:
        return RegexChunker(_compile(rest))
    if spec == "none":
        return WholeChunker()
    if spec == "markdown":
        return MarkdownChunker(DEFAULT_SIZE)
    if found := re.fullmatch(r"(words|tokens):(\d+)(?::(\d+))?", spec, re.ASCII):
        size, overlap = _positive(found[2], spec), int(found[3] or 0)
        if overlap >= size:
            raise ConfigError(f"chunker {spec!r}: the overlap must be smaller than {size}")
        if kind == "tokens":
            return TokenChunker(size, overlap)
        return WordChunker(size, overlap, merge_tail)
    if found := re.fullmatch(r"sentences:(\d+)w?", spec, re.ASCII):
        return SentenceChunker(_positive(found[1], spec))
    if found := re.fullmatch(r"markdown:(\d+)", spec, re.ASCII):
        return MarkdownChunker(_positive(found[1], spec))
    raise ConfigError(f"no chunker {spec!r}: write one of {FORMS}")


def default_chunker(document: Document) -> str:
    """The chunker for a document of this kind: records are passages already, files are cut."""
    return "none" if document.kind == "record" else "tokens:256:32"


def chunk_document(
    document: Document, chunker: Chunker, *, counter: TokenCounter | None = None
) -> list[Passage]:
    """The passages of a document; each is `document.text[start:end]`, and none is blank.

    A `counter` is needed by chunkers that count tokens.

    Raises:
        ConfigError: The chunker needs a tokenizer, or one that takes more tokens.
    """
    text = document.text
    title = chunker.fit_title(document.title, counter=counter)
    spans = chunker.cut(text, title=title, counter=counter)
    spans = [(start, end) for start, end in spans if not is_blank(text[start:end])]
    return [
        Passage(
            id=document.id if len(spans) == 1 else f"{document.id}#{chunk}",
            doc_id=document.id,
            text=text[start:end],
            title=title,
            chunk=chunk,
            start=start,
            end=end,
            source=document.source,
            meta={**document.meta, **described},
        )
        for chunk, ((start, end), described) in enumerate(
            zip(spans, chunker.describe(text, spans), strict=True)
        )
    ]


def split_long(document: Document, *, counter: TokenCounter, limit: int) -> list[Passage]:
    """The passages of a record that is too long for the encoder, at most `limit` tokens each.

    Raises:
        ConfigError: The encoder takes fewer than `limit` tokens, or they leave no room for text.
    """
    return chunk_document(document, TokenChunker(limit), counter=counter)


def _positive(digits: str, spec: str) -> int:
    if int(digits) < 1:
        raise ConfigError(f"chunker {spec!r}: the size must be at least 1")
    return int(digits)


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.MULTILINE)
    except re.error as error:
        raise ConfigError(f"chunker regex:{pattern}: not a regular expression: {error}") from error
