"""A segment: passages, their vectors and an optional FAISS index, all immutable."""

import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
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
from ragkit.index.vectors import VectorDtype, Vectors, encode
from ragkit.storage import HashingFile, durable_file, hash_file, remove_file
from ragkit.types import Metric

HASH_ROWS = 4096
SMALL_BYTES = 16 << 20
FACTS = "segment.json"
REQUIRED_FILES = frozenset({"keys.arrow", "passages.arrow", FACTS})


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
        remove_file(self.folder / f"vectors.{self._facts['dtype']}")
        self._facts["dtype"] = None

    def write_ann(self, ann: AnnIndex) -> AnnIndex:
        """Store the FAISS index and return it as it reads back from the disk."""
        return AnnIndex.open(self.write("ann.faiss", ann.write))

    def finish(self) -> int:
        """Write `segment.json`; the number of rows."""
        body = json.dumps(self._facts, indent=1).encode()
        self.write(FACTS, lambda file: file.write(body))
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
        hash_small: Read and hash every file of up to 16 MiB, and not segment.json alone, which
            says how to read the others.

    Raises:
        IndexCorruptError: A file is missing, cannot be read, has another size or hash, or
            disagrees on the rows.
    """
    folder = root / "seg" / entry.id
    names = _names(root, entry)
    for file in entry.files:
        check_file(root, file)
        if Path(file.path).name == FACTS or (hash_small and file.bytes <= SMALL_BYTES):
            _require_hash(root, file)
    facts = _read_facts(folder / FACTS)
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
        FACTS: facts["rows"],
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
    with _read_errors(path):
        is_missing = path.is_symlink() or not path.is_file()
        size = 0 if is_missing else path.stat().st_size
    if is_missing:
        raise IndexCorruptError(
            f"{path} is missing: restore it from a copy, or rebuild with --overwrite"
        )
    if size != entry.bytes:
        raise IndexCorruptError(
            f"{path} has {size} bytes, the manifest says {entry.bytes}: restore it from a copy, "
            "or rebuild with --overwrite"
        )


def _require_hash(root: Path, entry: FileEntry) -> None:
    """Raise IndexCorruptError unless the file can be read and has the hash of the manifest."""
    path = root / entry.path
    with _read_errors(path):
        found = hash_file(path)
    if found != entry.xxh3:
        raise IndexCorruptError(f"{path} is damaged: restore it from a copy, or rebuild")


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into an IndexCorruptError that names the path."""
    try:
        yield
    except OSError as error:
        raise IndexCorruptError(
            f"{path} cannot be read ({error.strerror}): check its permissions and the disk, or "
            "restore it from a copy"
        ) from error


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


def _read_facts(path: Path) -> Mapping[str, Any]:
    """What `segment.json` says of the other files."""
    with _read_errors(path):
        body = path.read_bytes()
    try:
        facts = json.loads(body)
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
