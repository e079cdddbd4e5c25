"""Text that is safe to tokenise and to store: valid UTF-8, no NUL, something visible."""

import re

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"

_SURROGATE = re.compile("[\ud800-\udfff]")
# All that is no white space and yet shows nothing: control and format characters, and what
# replaces undecodable bytes. Such a text embeds to the vector of the empty text.
_VISIBLE = re.compile(
    "[^\\s\x00-\x1f\x7f-\x9f\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f"
    "\ufeff\ufff9-\ufffb\ufffd]"
)


def is_blank(text: str) -> bool:
    """Whether nothing in `text` can be seen: it would embed like the empty text."""
    return _VISIBLE.search(text) is None


def clean(text: str) -> tuple[str, list[str]]:
    """`text` without lone surrogates and NUL, and the code of each kind of change."""
    codes = []
    if not text.isascii() and _SURROGATE.search(text):
        text = _SURROGATE.sub(REPLACEMENT, text)
        codes.append("lone_surrogate")
    if "\x00" in text:
        text = text.replace("\x00", "")
        codes.append("nul")
    return text, codes


def size_bytes(text: str) -> int:
    """Length of `text` in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def decode(data: bytes) -> tuple[str, bool]:
    """`data` as text with U+FFFD for what is not UTF-8, and whether all of it was UTF-8."""
    try:
        return data.decode("utf-8"), True
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace"), False
