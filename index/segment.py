"""A segment: passages, their vectors and an optional FAISS index, all immutable."""

import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from ragkit.errors import IndexCorruptError
from ragkit.index.faiss.ann import AnnIndex
from ragkit.index.keys import Keys, write_keys
from ragkit.index.manifest import FileEntry, SegmentEntry
from ragkit.index.passages import Passages, id_order, write_passages
from ragkit.index.storage import HashingFile, durable_file, hash_file
from ragkit.index.vectors import VectorDtype, Vectors, encode
from ragkit.types import Metric

HASH_ROWS = 4096
SMALL_BYTES = 16 << 20
REQUIRED_FILES = frozenset({"keys.arrow", "passages.arrow", "segment.json"})


@dataclass(frozen=True, slots=True)
class Segment:
    """An opened segment.

    Args:
        vectors: `None` if the index was built to keep only the codes of its FAISS index.
        ann: `None` for exact search.
    """

    rows: int
    base: int
    passages: Passages
    keys: Keys
    vectors: Vectors | None
    ann: AnnIndex | None


class SegmentFolder:
    """Writes a segment below `folder`, file by file, each durable before the next."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._facts: dict[str, Any] = {}

    def write(self, name: str, fill: Callable[[Any], object]) -> Path:
        """Let `fill` write the file `name`; its path."""
        path = self.folder / name
        with durable_file(path) as file:
            fill(file)
        return path

    def write_passages(self, batches: Iterable[pa.RecordBatch]) -> Passages:
        """Store the passages and their keys."""
        passages = Passages.open(
            self.write("passages.arrow", lambda file: write_passages(file, batches))
        )
        self.write("keys.arrow", lambda file: write_keys(file, passages))
        self._facts["rows"] = len(passages)
        return passages

    def write_vectors(
        self,
        blocks: Iterable[NDArray[np.float32]],
        *,
        dim: int,
        dtype: VectorDtype,
        scale: NDArray[np.float32] | None,
    ) -> Vectors:
        """Store blocks of vectors, `[rows, dim]` each, as `dtype`."""

        def fill(file: HashingFile) -> None:
            for block in blocks:
                file.write(encode(block, dtype, scale).data)

        path = self.write(f"vectors.{dtype}", fill)
        self._facts |= {
            "dim": dim,
            "dtype": dtype,
            "scale": None if scale is None else scale.tolist(),
        }
        return Vectors.open(path, rows=self._facts["rows"], dim=dim, dtype=dtype, scale=scale)

    def drop_vectors(self) -> None:
        """Keep only the codes inside the FAISS index."""
        (self.folder / f"vectors.{self._facts['dtype']}").unlink()
        self._facts["dtype"] = None

    def write_ann(self, ann: AnnIndex) -> AnnIndex:
        """Store the FAISS index and return it as it reads back from the disk."""
        return AnnIndex.open(self.write("ann.faiss", ann.write))

    def finish(self) -> int:
        """Write `segment.json`; the number of rows."""
        body = json.dumps(self._facts, indent=1).encode()
        self.write("segment.json", lambda file: file.write(body))
        return int(self._facts["rows"])


def entry_of(folder: Path, segment_id: str, *, rows: int, base: int) -> SegmentEntry:
    """What a manifest says of the segment that now lies in `folder`, hashes read from the disk."""
    files = tuple(
        FileEntry(f"seg/{segment_id}/{path.name}", path.stat().st_size, hash_file(path))
        for path in sorted(folder.iterdir())
    )
    return SegmentEntry(segment_id, rows, base, files)


def open_segment(
    root: Path,
    entry: SegmentEntry,
    *,
    metric: Metric,
    mmap: bool = True,
    hash_small: bool = True,
) -> Segment:
    """The segment of index `root`, after its sizes and row counts were checked.

    Args:
        hash_small: Compare the hashes of files that are read in a millisecond.

    Raises:
        IndexCorruptError: A file is missing, has another size, or disagrees on the rows.
    """
    folder = root / "seg" / entry.id
    names = _names(root, entry)
    for file in entry.files:
        check_file(root, file)
        if hash_small and file.bytes <= SMALL_BYTES and hash_file(root / file.path) != file.xxh3:
            raise IndexCorruptError(f"{file.path} is damaged: restore it from a copy, or rebuild")
    facts = _read_facts(root, entry)
    if facts["dtype"] is not None and f"vectors.{facts['dtype']}" not in names:
        raise IndexCorruptError(
            f"{folder}: the manifest names no vectors.{facts['dtype']}: rebuild"
        )
    passages = Passages.open(folder / "passages.arrow", mmap=mmap)
    keys = Keys.open(folder / "keys.arrow", mmap=mmap)
    vectors = _open_vectors(folder, facts, mmap=mmap)
    ann = None
    if "ann.faiss" in names:
        ann = AnnIndex.open(
            folder / "ann.faiss",
            mmap=mmap,
            expect_dim=facts["dim"],
            expect_rows=entry.rows,
            expect_metric=metric,
        )
    counts = {
        "manifest": entry.rows,
        "segment.json": facts["rows"],
        "passages.arrow": len(passages),
    }
    counts["keys.arrow"] = len(keys)
    if len(set(counts.values())) > 1:
        raise IndexCorruptError(
            f"{folder}: the files disagree on the number of rows ({counts}): restore them from a "
            "copy, or rebuild with --overwrite"
        )
    return Segment(entry.rows, entry.base, passages, keys, vectors, ann)


def _names(root: Path, entry: SegmentEntry) -> set[str]:
    """The names of a segment's files, after a check that all lie in its own folder.

    Raises:
        IndexCorruptError: One lies elsewhere, one is missing, or the folder is a link.
    """
    folder = root / "seg" / entry.id
    names = {Path(file.path).name for file in entry.files}
    elsewhere = [
        file.path for file in entry.files if Path(file.path).parent != Path("seg", entry.id)
    ]
    missing = sorted(REQUIRED_FILES - names)
    if elsewhere or missing or folder.resolve() != root.resolve() / "seg" / entry.id:
        raise IndexCorruptError(
            f"{folder}: the manifest must name {', '.join(sorted(REQUIRED_FILES))} in this folder, "
            f"which is no link; missing {missing}, elsewhere {elsewhere}: do not open this index"
        )
    return names


def check_file(root: Path, entry: FileEntry) -> None:
    """Raise IndexCorruptError unless the file is there, with its size, and no link.

    A shorter file would end the process with SIGBUS once it is mapped.
    """
    path = root / entry.path
    if path.is_symlink() or not path.is_file():
        raise IndexCorruptError(
            f"{path} is missing: restore it from a copy, or rebuild with --overwrite"
        )
    if (size := path.stat().st_size) != entry.bytes:
        raise IndexCorruptError(
            f"{path} has {size} bytes, the manifest says {entry.bytes}: restore it from a copy, "
            "or rebuild with --overwrite"
        )


def content_hash(segments: Iterable[tuple[Passages, Vectors | None]]) -> str:
    """xxh3-128 over id, text and vector bytes of every passage, in the byte order of the ids.

    Equal content gives an equal hash, however it was cut into parts and segments, or resumed.
    """
    digest = xxhash.xxh3_128()
    for row in heapq.merge(*(_sorted_rows(*segment) for segment in segments)):
        for field in row:
            digest.update(field)
    return digest.hexdigest()


def _sorted_rows(
    passages: Passages, vectors: Vectors | None
) -> Iterator[tuple[bytes, bytes, bytes]]:
    order = id_order(passages)
    for start in range(0, len(order), HASH_ROWS):
        rows = order[start : start + HASH_ROWS]
        ids, texts = (passages.values(name, rows.tolist()) for name in ("id", "text"))
        stored = None if vectors is None else vectors.stored[rows]
        for i in range(len(rows)):
            vector = b"" if stored is None else stored[i].tobytes()
            yield ids[i].encode(), texts[i].encode(), vector


def _read_facts(root: Path, entry: SegmentEntry) -> Mapping[str, Any]:
    """`segment.json`, which decides how the other files are read: so its hash is always checked."""
    path = root / "seg" / entry.id / "segment.json"
    named = {Path(file.path).name: file for file in entry.files}.get("segment.json")
    if named is None or hash_file(path) != named.xxh3:
        raise IndexCorruptError(f"{path} is damaged: restore it from a copy, or rebuild")
    try:
        facts = json.loads(path.read_bytes())
        return {key: facts[key] for key in ("rows", "dim", "dtype", "scale")}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IndexCorruptError(
            f"{path} is no segment.json ({error}): rebuild the index"
        ) from error


def _open_vectors(folder: Path, facts: Mapping[str, Any], *, mmap: bool) -> Vectors | None:
    if facts["dtype"] is None:
        return None
    scale = None if facts["scale"] is None else np.asarray(facts["scale"], np.float32)
    return Vectors.open(
        folder / f"vectors.{facts['dtype']}",
        rows=facts["rows"],
        dim=facts["dim"],
        dtype=facts["dtype"],
        scale=scale,
        mmap=mmap,
    )
