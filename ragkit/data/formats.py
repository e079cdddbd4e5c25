"""Which format an input has: by its suffix, else by its first bytes."""

from pathlib import Path
from typing import Literal, get_args

from ragkit.data.streams import COMPRESSED, open_stream
from ragkit.errors import ConfigError, DataError

RecordFormat = Literal["jsonl", "csv", "tsv", "dpr", "msmarco", "parquet", "arrow"]
ProseFormat = Literal["text", "markdown", "rst", "html", "pdf"]
Format = RecordFormat | ProseFormat

RECORD_FORMATS: tuple[RecordFormat, ...] = get_args(RecordFormat)
PROSE_FORMATS: tuple[ProseFormat, ...] = get_args(ProseFormat)
FORMATS: tuple[Format, ...] = (*RECORD_FORMATS, *PROSE_FORMATS)
"""Names that `--format` takes, besides `auto`."""

_BY_SUFFIX: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".rst": "rst",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
}
_BY_HEAD: dict[bytes, Format] = {
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"\xff\xff\xff\xff": "arrow",
    b"%PDF-": "pdf",
    b"<!doctype html": "html",
    b"<html": "html",
    b"{": "jsonl",
}


def named_format(name: str) -> Format | None:
    """The format called `name`; `None` for `auto`.

    Raises:
        ConfigError: There is no such format.
    """
    if name in ("auto", "beir", "hf"):  # the last two are folders, told by what lies in them
        return None
    for known in FORMATS:
        if name == known:
            return known
    raise ConfigError(f"no format {name!r}: choose auto or one of {', '.join(FORMATS)}")


def format_by_suffix(path: Path) -> Format | None:
    """The format that the name of `path` stands for, a compression suffix left aside."""
    name = path.name.lower()
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    return _BY_SUFFIX.get(Path(name).suffix)


def detect_format(path: Path | None) -> Format:
    """The format of a file; JSONL for stdin (`None`) and other pipes, which can be read only once.

    Raises:
        DataError: Neither its suffix nor its first bytes are known, or it cannot be read.
    """
    known = format_by_suffix(path) if path else None
    if path is None or not path.is_file():
        return known or "jsonl"
    if known is None:
        known = _format_by_head(path)
    return "msmarco" if known == "tsv" and _has_no_header(path) else known


def _format_by_head(path: Path) -> Format:
    with open_stream(path) as stream:
        head = stream.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for magic, known in _BY_HEAD.items():
        if head.startswith(magic.lower()):
            return known
    raise DataError(
        f"{path}: unknown format (suffix {path.suffix!r}, first bytes {head[:12]!r}); expected one "
        f"of {' '.join(_BY_SUFFIX)}: convert the file or name its format with --format"
    )


def _has_no_header(path: Path) -> bool:
    """Whether a TSV file starts with a number and a text, as MS MARCO's collection does."""
    with open_stream(path) as stream:
        cells = stream.readline(1 << 16).split(b"\t")
    return len(cells) == 2 and cells[0].strip().isdigit()
