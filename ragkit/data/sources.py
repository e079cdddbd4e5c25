"""Where a corpus comes from, for the manifest: every file with its size, time and hash."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

import xxhash

from ragkit.data.huggingface import open_dataset, split_uri
from ragkit.data.inputs import STDIN, Input, expand
from ragkit.data.options import ReadOptions
from ragkit.data.readers import DEFAULT_OPTIONS
from ragkit.data.streams import unreadable

_BLOCK_BYTES = 1 << 20


class Source(TypedDict):
    """One file that was read.

    `mtime` is ISO 8601 in UTC, `xxh3` the 128-bit hash of the bytes as they lie on disk.
    """

    uri: str
    bytes: int
    mtime: str
    xxh3: str


def sources(inputs: Sequence[str], *, options: ReadOptions = DEFAULT_OPTIONS) -> list[Source]:
    """The files that `read_documents` reads for the same arguments, stdin and pipes left out.

    Raises:
        DataError: An input is missing or cannot be read.
    """
    found = expand([given for given in inputs if given != STDIN], options=options)
    return [_describe(uri, path) for item in found for uri, path in _files(item)]


def _files(item: Input) -> Iterator[tuple[str, Path]]:
    if item.path is not None:
        if item.path.is_file():
            yield item.uri, item.path
        return
    folder = Path(split_uri(item.uri)[0])
    if folder.is_dir():
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
    else:
        paths = [Path(file["filename"]) for file in open_dataset(item.uri).cache_files]
    for path in paths:
        yield f"{item.uri}/{path.name}", path


def _describe(uri: str, path: Path) -> Source:
    digest = xxhash.xxh3_128()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
        found = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    return Source(
        uri=uri,
        bytes=found.st_size,
        mtime=datetime.fromtimestamp(found.st_mtime, UTC).isoformat(),
        xxh3=digest.hexdigest(),
    )
