"""First stage of a build: read, cut, refuse, and lay the passages down in parts."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from ragkit.console import progress
from ragkit.data import Rejects
from ragkit.encoders.base import Tokens
from ragkit.errors import DataError
from ragkit.index.passages import SCHEMA, to_batch
from ragkit.retrieval.cutting import Cutter, Row
from ragkit.retrieval.options import BuildOptions
from ragkit.storage import HashingFile, storage_errors
from ragkit.types import Document

DOCUMENTS_AT_ONCE = 256
MAX_LISTED = 5
PIECE = re.compile(r"#\d+$")


@dataclass(frozen=True, slots=True)
class Part:
    """A run of passages that is embedded as one unit of work.

    Args:
        path: Arrow file with the passages and their tokens.
        key: Hash of passages and tokens: equal for equal ones.
    """

    path: Path
    rows: int
    num_tokens: int
    num_truncated: int
    key: str

    def passages(self) -> pa.RecordBatch:
        """The passages, as rows of the index's schema."""
        return self._batch().select(SCHEMA.names)

    def tokens(self) -> Tokens:
        """The token ids of the passages."""
        column = self._batch().column("tokens")
        offsets = column.offsets.to_numpy().astype(np.int64)
        ids = column.values.to_numpy()
        return Tokens(ids=ids, offsets=offsets, lengths=np.diff(offsets).astype(np.int32))

    def _batch(self) -> pa.RecordBatch:
        return pa.ipc.open_file(pa.memory_map(str(self.path))).get_batch(0)


class Uniqueness:
    """Applies the policies for equal document ids and equal texts.

    Args:
        last: Ordinal of the last document of each id; needed by the policy `keep-last` alone.
    """

    def __init__(self, options: BuildOptions, rejects: Rejects, *, last: Mapping[str, int]) -> None:
        self._policy, self._dedup = options.on_duplicate, options.dedup
        self._rejects, self._last = rejects, last
        self._ids: set[str] = set()
        self._texts: dict[bytes, str] = {}
        self.faults: list[str] = []
        self.looks_like_piece = False

    def keep(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents that stay, renamed where the policy says so."""
        for ordinal, document in enumerate(documents):
            named = self._named(document, ordinal)
            if named is not None and not self._is_known_text(named):
                self._ids.add(named.id)
                self.looks_like_piece |= PIECE.search(named.id) is not None
                yield named

    def require_none(self) -> None:
        """Raise DataError if ids occurred twice and the policy is `error`."""
        if self.faults:
            listed = "".join(f"\n  {fault}" for fault in self.faults[:MAX_LISTED])
            raise DataError(
                f"{len(self.faults)} documents have an id that occurred before:{listed}\n"
                "make ids unique, or pass --on-duplicate keep-first, keep-last or rename"
            )

    def _named(self, document: Document, ordinal: int) -> Document | None:
        if self._policy == "keep-last":
            if self._last[document.id] == ordinal:
                return document
        elif document.id not in self._ids:
            return document
        if self._policy == "rename":
            return replace(document, id=self._free(document.id))
        if self._policy == "error":
            self.faults.append(f"{document.source}: {document.id!r}")
            return None
        self._rejects.refuse(document.source, f"id {document.id!r} occurs twice", code="duplicate")
        return None

    def require_unique_passages(self, parts: Iterable[Part]) -> None:
        """Raise DataError if a document is called as a piece of another one is.

        Only ids such as `a#0` can clash with the pieces of a document `a`.
        """
        if not self.looks_like_piece:
            return
        seen: set[str] = set()
        for part in parts:
            for name in part.passages().column("id").to_pylist():
                if name in seen:
                    raise DataError(
                        f"two passages would have the id {name!r}: a document is called as a piece "
                        "of another one is; rename it"
                    )
                seen.add(name)

    def _free(self, name: str) -> str:
        number = 2
        while f"{name}~{number}" in self._ids:
            number += 1
        return f"{name}~{number}"

    def _is_known_text(self, document: Document) -> bool:
        if self._dedup == "none":
            return False
        digest = xxhash.xxh3_128_digest(f"{document.title}\0{document.text}".encode())
        first = self._texts.setdefault(digest, document.id)
        if first != document.id:
            self._rejects.refuse(
                document.source, f"{document.id!r} has the text of {first!r}", code="duplicate_text"
            )
        return first != document.id


def prepare_parts(
    documents: Iterable[Document], *, cutter: Cutter, folder: Path, part_rows: int
) -> tuple[list[Part], int]:
    """Parts of `part_rows` passages each, written below `folder`, and the number of documents.

    Raises:
        StorageError: The disk is full or failing.
    """
    counted = _Counter(documents)
    rows = _cut(iter(counted), cutter)
    parts: list[Part] = []
    while run := list(islice(rows, part_rows)):
        parts.append(_write_part(folder / f"{len(parts):06d}.arrow", run))
    return parts, counted.seen


class _Counter:
    def __init__(self, documents: Iterable[Document]) -> None:
        self._documents, self.seen = documents, 0

    def __iter__(self) -> Iterator[Document]:
        with progress("read") as bar:
            for document in self._documents:
                self.seen += 1
                yield document
                bar.advance()


def _cut(documents: Iterator[Document], cutter: Cutter) -> Iterator[Row]:
    while some := list(islice(documents, DOCUMENTS_AT_ONCE)):
        yield from cutter.cut(some)


def _write_part(path: Path, rows: list[Row]) -> Part:
    """Not synced: a killed build writes its parts anew, only vectors are worth keeping."""
    batch = to_batch([passage for passage, _ in rows])
    batch = batch.append_column(pa.field("tokens", pa.large_list(pa.int32())), _ragged(rows))
    with storage_errors(path), path.open("wb") as raw:
        file = HashingFile(raw)
        with pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
    num_truncated = sum(passage.truncated for passage, _ in rows)
    # The same passages have the same key, from whatever file they were read.
    key = xxhash.xxh3_128_hexdigest(memoryview(batch.drop_columns(["source"]).serialize()))
    return Part(path, len(rows), sum(len(ids) for _, ids in rows), num_truncated, key)


def _ragged(rows: list[Row]) -> pa.Array:
    lengths: NDArray[np.int64] = np.array([len(ids) for _, ids in rows], np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = np.concatenate([ids for _, ids in rows]).astype(np.int32)
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))
