"""The documents of files, folders, standard input and Hugging Face datasets."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from ragkit.data.columnar import read_columnar
from ragkit.data.formats import RecordFormat
from ragkit.data.huggingface import read_huggingface
from ragkit.data.inputs import Input, expand
from ragkit.data.options import ReadOptions
from ragkit.data.prose import read_prose
from ragkit.data.records import Reading, read_jsonl, read_table
from ragkit.data.rejects import Rejects
from ragkit.data.streams import open_stream
from ragkit.errors import DataError
from ragkit.types import Document

DEFAULT_OPTIONS = ReadOptions()


def read_documents(
    inputs: Sequence[str], *, options: ReadOptions = DEFAULT_OPTIONS, rejects: Rejects
) -> Iterator[Document]:
    """The documents of all inputs, one after the other, read as they are asked for.

    The order is the same everywhere: inputs as given, the files of a folder by the bytes of their
    paths. Ids are as the input gives them, so that two documents may share one. `inputs` are paths,
    patterns, folders, `-` for stdin, or `hf:PATH_OR_NAME[:split]`; `rejects` takes each row that is
    refused or altered.

    Raises:
        ConfigError: The options name a format that does not exist.
        DataError: An input is missing or cannot be read to its end.
        HubError: A dataset is not on disk and the hub cannot be reached.
        MissingDependencyError: The package that reads a format is not installed.
    """
    found = expand(inputs, options=options)  # before the first document: all must be there
    documents = (document for item in found for document in _read(item, options, rejects))
    return islice(documents, options.limit)


def _read(item: Input, options: ReadOptions, rejects: Rejects) -> Iterator[Document]:
    reading = Reading(item.uri, item.label, options, rejects)
    kind = item.format
    if kind is None:
        yield from read_huggingface(item.uri, reading)
    elif kind in ("parquet", "arrow"):
        yield from read_columnar(_plain_file(item), reading, kind=kind)
    elif kind in ("jsonl", "csv", "tsv", "dpr", "msmarco"):
        yield from _read_lines(item.path, reading, kind)
    else:
        document = read_prose(item.path, reading, kind=kind)
        if document is not None:
            yield document


def _read_lines(path: Path | None, reading: Reading, kind: RecordFormat) -> Iterator[Document]:
    with open_stream(path) as stream:
        if kind == "jsonl":
            yield from read_jsonl(stream, reading)
        else:
            yield from read_table(stream, reading, kind=kind)


def _plain_file(item: Input) -> Path:
    if item.path is None or item.path.suffix in (".gz", ".bz2", ".zst"):
        raise DataError(
            f"{item.uri}: {item.format} is read from a plain file, as it is compressed within: "
            "write it to disk and unpack it first"
        )
    return item.path
