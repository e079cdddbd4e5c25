"""What the readers of Markdown, reStructuredText, HTML and PDF make of a file."""

import re
from dataclasses import dataclass
from itertools import pairwise

_UNDERLINE = re.compile(r"""([=\-~^"'#*+.:`_])\1{2,}""")
_TITLE_CHARS = 100_000


@dataclass(frozen=True, slots=True)
class Prose:
    """What a file says.

    Args:
        title: Empty if the file names none.
        valid: Whether all bytes could be decoded.
    """

    text: str
    title: str = ""
    valid: bool = True


class UnreadableFileError(Exception):
    """A file that is broken or locked, for the reason given; the reader skips it."""


def rst_title(text: str) -> str:
    """The first heading of reStructuredText: a line that is underlined; empty if there is none."""
    for above, below in pairwise(text[:_TITLE_CHARS].splitlines()):
        title, line = above.strip(), below.rstrip()
        is_heading = _UNDERLINE.fullmatch(line) and len(line) >= len(title)
        if title and is_heading and not _UNDERLINE.fullmatch(title):
            return title
    return ""
