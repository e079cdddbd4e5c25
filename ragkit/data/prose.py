"""One document from a file of prose: text, Markdown, reStructuredText, HTML or PDF."""

from pathlib import Path, PurePosixPath

from ragkit.data.fields import keep_invalid, take_text
from ragkit.data.formats import Format
from ragkit.data.markdown import first_heading
from ragkit.data.markup import Prose, UnreadableFileError, rst_title
from ragkit.data.records import Reading
from ragkit.data.streams import COMPRESSED, as_utf8, open_stream
from ragkit.data.text import clean, decode
from ragkit.errors import MissingDependencyError
from ragkit.types import Document


def read_prose(path: Path | None, reading: Reading, *, kind: Format) -> Document | None:
    """The document in the file at `path` (stdin for `None`), or `None` if it was refused.

    Raises:
        DataError: The file cannot be read, or a policy of the options says `error`.
        MissingDependencyError: The package that reads this format is not installed.
    """
    options, rejects = reading.options, reading.rejects
    data = _read_bytes(path, options.max_file_bytes + 1, kind=kind)
    if len(data) > options.max_file_bytes:
        reason = f"a file of more than {options.max_file_bytes} bytes: raise --max-file-mb"
        rejects.refuse(reading.name, reason, code="too_large")
        return None
    try:
        prose = _parse(data, kind)
    except UnreadableFileError as error:
        rejects.refuse(reading.name, str(error), code="unreadable_file")
        return None
    if not prose.valid and not keep_invalid(reading.name, options=options, rejects=rejects):
        return None
    text = take_text(prose.text, reading.name, options=options, rejects=rejects)
    if text is None:
        return None
    title = clean(prose.title)[0] or _stem(reading.label)
    return Document(reading.label, text, title=title, source=reading.name, kind="file")


def _read_bytes(path: Path | None, size: int, *, kind: Format) -> bytes:
    """At most `size` bytes, as UTF-8 unless the format says itself how it is encoded."""
    with open_stream(path) as stream:
        return (stream if kind in ("html", "pdf") else as_utf8(stream)).read(size)


def _parse(data: bytes, kind: Format) -> Prose:
    if kind in ("html", "pdf"):
        return _parse_binary(data, kind)
    text, valid = decode(data)
    titles = {"markdown": first_heading, "rst": rst_title}
    return Prose(text, title=titles[kind](text) if kind in titles else "", valid=valid)


def _parse_binary(data: bytes, kind: Format) -> Prose:
    try:
        if kind == "html":
            from ragkit.data.webpages import read_html

            return read_html(data)
        from ragkit.data.pdf import read_pdf

        return read_pdf(data)
    except ImportError as error:
        raise MissingDependencyError(
            f"reading {kind} needs {error.name}: run `pip install 'ragkit[files]'`"
        ) from error


def _stem(label: str) -> str:
    """The file's name without its suffixes, also that of a compression."""
    path = PurePosixPath(label)
    return PurePosixPath(path.stem).stem if path.suffix in COMPRESSED else path.stem
