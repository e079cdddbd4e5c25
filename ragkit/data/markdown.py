"""Markdown: its headings, and passages that keep to its sections."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ragkit.data.sentences import count_units, pack_spans, sentence_spans
from ragkit.data.spans import Chunker, Span, TokenCounter, trim
from ragkit.types import Metadata

DEFAULT_SIZE = 200

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_NO_PARAGRAPH = re.compile(r" {0,3}(?:[-*+] |>|\d+[.)] )|\t| {4}")
_FRONT_MATTER = re.compile(r"---[ \t\r]*\n(?:[^\n]*\n)*?---[ \t\r]*(?:\n|\Z)")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading and where its line starts and its section's body begins."""

    level: int
    title: str
    start: int
    body: int


@dataclass(frozen=True, slots=True)
class _Section:
    start: int
    body: int
    end: int


@dataclass(frozen=True)
class MarkdownChunker(Chunker):
    """One passage per section; a longer section in paragraphs, a longer paragraph in sentences.

    A heading without text of its own goes with the section below it. `headings` in a passage's
    metadata is the path of headings that lead to it.

    Args:
        size: Most words of a passage.
    """

    size: int = DEFAULT_SIZE

    def cut(self, text: str, *, title: str = "", counter: TokenCounter | None = None) -> list[Span]:
        """The spans of the passages."""
        parts = (pack_spans(text, self._parts(text, s), size=self.size) for s in _sections(text))
        return [trim(text, *span) for spans in parts for span in spans]

    def describe(self, text: str, spans: Sequence[Span]) -> list[Metadata]:
        """The titles of the headings above each passage, outermost first."""
        headings = list(find_headings(text))
        paths, bodies = _paths(headings), [heading.body for heading in headings]
        described: list[Metadata] = []
        for start, end in spans:
            above = bisect_right(bodies, start)
            # A passage may start with headings: it stands under the last of these.
            while above < len(headings) and headings[above].start < end:
                if text[start : headings[above].start].strip():
                    break
                start = max(start, headings[above].body)
                above += 1
            described.append({"headings": paths[above]})
        return described

    def _parts(self, text: str, section: _Section) -> Iterator[Span]:
        """Paragraphs, or sentences of long ones; the first bears the headings."""
        start: int | None = section.start
        for first, last in _paragraphs(text, section.body, section.end):
            begin = first if start is None else start
            if count_units(text, begin, last) <= self.size:
                yield begin, last
            else:
                for sentence in sentence_spans(text, first, last):
                    yield (begin if sentence[0] == first else sentence[0]), sentence[1]
            start = None
        if start is not None and start < section.end:
            yield start, section.end


def first_heading(text: str) -> str:
    """The title of the first heading; empty if there is none."""
    return next((heading.title for heading in find_headings(text) if heading.title), "")


def find_headings(text: str) -> Iterator[Heading]:
    """The headings outside fenced code and front matter, of both kinds (`#` and underlined)."""
    above: tuple[int, str] | None = None  # start and content of a line that may be underlined
    for start, line, is_code in _lines(text, 0, len(text)):
        content, body = line.rstrip("\r\n"), start + len(line)
        if not is_code and (found := _HEADING.match(content)):
            yield Heading(len(found[1]), _without_closing(found[2] or ""), start, body)
            above = None
        elif not is_code and above and (found := _UNDERLINE.match(content)):
            yield Heading(1 if found[1][0] == "=" else 2, above[1], above[0], body)
            above = None
        elif is_code or not content.strip() or _NO_PARAGRAPH.match(content):
            above = None
        else:
            above = (start, content.strip())


def _without_closing(title: str) -> str:
    """The title without the `#` that may close a heading."""
    title = title.strip()
    bare = title.rstrip("#")
    return bare.rstrip() if not bare or bare[-1] in " \t" else title


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, str, bool]]:
    """Start and content of each line, and whether it is front matter or fenced code."""
    front = _FRONT_MATTER.match(text) if start == 0 else None
    fence = ""
    for match in _LINE.finditer(text, start, end):
        at, line = match.start(), match[0]
        mark = _FENCE.match(line)
        yield at, line, bool(fence or mark or (front and at < front.end()))
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and not line[mark.end() :].strip():
            fence = ""


def _sections(text: str) -> Iterator[_Section]:
    """What precedes the first heading, then each heading with text and the bare ones above it."""
    headings = list(find_headings(text))
    edges = [*(heading.start for heading in headings), len(text)]
    if text[: edges[0]].strip():
        yield _Section(0, 0, edges[0])
    pending: int | None = None
    for heading, end in zip(headings, edges[1:], strict=True):
        start = heading.start if pending is None else pending
        is_bare = not text[heading.body : end].strip()
        if not is_bare or end == len(text):
            yield _Section(start, heading.body, end)
        pending = start if is_bare else None


def _paragraphs(text: str, start: int, end: int) -> Iterator[Span]:
    """Spans between empty lines, white space trimmed; a fenced block is one, whatever it holds."""
    first = start
    for at, line, is_code in _lines(text, start, end):
        if not is_code and not line.strip():
            yield from _nonempty(text, first, at)
            first = at + len(line)
    yield from _nonempty(text, first, end)


def _nonempty(text: str, start: int, end: int) -> Iterator[Span]:
    start, end = trim(text, start, end)
    if start < end:
        yield start, end


def _paths(headings: Sequence[Heading]) -> list[list[str]]:
    """The titles above the text that follows 0, 1, 2, ... headings."""
    path: list[Heading] = []
    paths: list[list[str]] = [[]]
    for heading in headings:
        path = [above for above in path if above.level < heading.level] + [heading]
        paths.append([above.title for above in path])
    return paths
