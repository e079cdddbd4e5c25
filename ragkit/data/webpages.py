"""The visible text of HTML; imported late, as it needs lxml."""

import codecs
import re
from typing import Any

from lxml import etree, html

from ragkit.data.markup import Prose, UnreadableFileError
from ragkit.data.text import REPLACEMENT, decode

_SILENT = ("script", "style", "noscript", "template", "svg", "head")
_STARTS_LINE = frozenset(("br", "li", "tr", "dt", "dd"))
_CELLS = frozenset(("td", "th"))
_WHITE = re.compile(r"\s+")
_CHARSET = re.compile(
    rb"""<(?:meta\s[^>]*charset|\?xml\s[^>]*encoding)\s*=\s*["']?([\w-]+)""", re.IGNORECASE
)


def read_html(data: bytes) -> Prose:
    """The visible text of a page, one line per block, an empty line between paragraphs.

    Raises:
        UnreadableFileError: Elements are nested so deeply that the parser drops some.
    """
    source, valid = _decode(data)
    parser = html.HTMLParser(
        encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True
    )
    try:
        # The parser would stop at a NUL.
        encoded = source.replace("\x00", REPLACEMENT).encode("utf-8", "replace")
        tree = html.document_fromstring(encoded, parser=parser)
    except etree.ParserError:  # it holds no element
        return Prose("", valid=valid)
    if any("depth" in entry.message for entry in parser.error_log):
        raise UnreadableFileError("HTML nested too deeply to be read to its end")
    title = " ".join((tree.findtext(".//title") or "").split())
    etree.strip_elements(tree, *_SILENT, with_tail=False)
    return Prose(_visible(tree), title=title, valid=valid)


def _decode(data: bytes) -> tuple[str, bool]:
    """The page by its byte order mark, else by the charset it declares, else as UTF-8."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace"), True
    declared = _CHARSET.search(data[:2048])
    try:
        encoding = codecs.lookup(declared[1].decode("ascii")).name if declared else "utf-8"
        if encoding.startswith("utf") or encoding == "ascii":
            return decode(data)
        return data.decode(encoding), True
    except (LookupError, UnicodeError):
        return decode(data)


def _visible(tree: Any) -> str:  # noqa: ANN401 - lxml has no types
    parts = ["\n"]
    depth = 0  # of `pre`, in which white space counts
    for event, element in etree.iterwalk(tree, events=("start", "end")):
        if border := _border(element.tag, event):
            parts.append(border)
        if element.tag == "pre":
            depth += 1 if event == "start" else -1
        if text := (element.text if event == "start" else element.tail):
            parts.append(text if depth else _collapse(text, parts[-1]))
    lines = (line.rstrip() for line in "".join(parts).replace("\xa0", " ").split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def _border(tag: str, event: str) -> str:
    """What the start or end of an element puts into the text."""
    if tag in _STARTS_LINE:
        return "\n" if event == "start" else ""
    if tag in _CELLS:
        return " " if event == "end" else ""
    return "\n" if tag in html.defs.block_tags else ""


def _collapse(text: str, before: str) -> str:
    """`text` with one blank for each run of white space, and none after another or a line break."""
    text = _WHITE.sub(" ", text)
    return text.removeprefix(" ") if before.endswith(("\n", " ")) else text
