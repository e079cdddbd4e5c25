"""The manifest: what one published generation consists of, and how to find the current one."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, get_args

from ragkit.errors import IndexCorruptError, IndexStateError
from ragkit.index.layout import Layout
from ragkit.storage import durable_file
from ragkit.types import Metric

FORMAT = "ragkit-index"
FORMAT_VERSION = "1.0"
MAX_MANIFEST_BYTES = 64 << 20

logger = logging.getLogger(__name__)

_MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of the index: its path below the index directory, size and xxh3-128."""

    path: str
    bytes: int
    xxh3: str


@dataclasses.dataclass(frozen=True, slots=True)
class SegmentEntry:
    """A segment of a generation; its rows are numbered from `base`."""

    id: str
    rows: int
    base: int
    files: tuple[FileEntry, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """One published generation.

    Args:
        model: What `Encoder.describe` said when the passages were embedded.
        settings: Everything else that decides the content: chunker, template, dtypes.
        input_hash: Hash of the passages as they were read; equal input and settings need no build.
        ann: Index type, its parameters for searching, and why it was chosen.
        quality: The recall self-check.
        canary: Embeddings of fixed texts, which tell a changed encoder; `None` without encoder.
    """

    generation: int
    parent: int | None
    uuid: str
    created: str
    versions: Mapping[str, str]
    dim: int
    metric: str
    vector_dtype: str
    model: Mapping[str, Any]
    settings: Mapping[str, Any]
    input_hash: str
    content_hash: str
    sources: tuple[Mapping[str, Any], ...]
    counts: Mapping[str, int]
    segments: tuple[SegmentEntry, ...]
    ann: Mapping[str, Any]
    quality: Mapping[str, Any]
    canary: FileEntry | None
    build: Mapping[str, Any]
    format: str = FORMAT
    format_version: str = FORMAT_VERSION

    @property
    def num_passages(self) -> int:
        """Rows over all segments."""
        return sum(segment.rows for segment in self.segments)

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Every file that the generation names."""
        named = tuple(entry for segment in self.segments for entry in segment.files)
        return named if self.canary is None else (*named, self.canary)


def publish(layout: Layout, manifest: Manifest) -> None:
    """Make `manifest` the current generation in one rename; its files must be in place.

    Raises:
        StorageError: The disk is full or failing; the previous generation stays current.
    """
    body = json.dumps(dataclasses.asdict(manifest), indent=1, ensure_ascii=False).encode()
    path = layout.manifest(manifest.generation)
    with durable_file(path) as file:
        file.write(body)
    pointer = _pointer(manifest.generation, hashlib.sha256(body).hexdigest())
    with durable_file(layout.current) as file:
        file.write(pointer)


def read_current(layout: Layout, *, generation: int | None = None) -> Manifest:
    """The current manifest, or the one of an older `generation` that is still there.

    Raises:
        ConfigError: There is no such index.
        IndexStateError: Nothing was published, the generation is gone, or a newer ragkit wrote it.
        IndexCorruptError: CURRENT or the manifest is damaged.
    """
    current, sha256 = read_pointer(layout)
    number = current if generation is None else generation
    path = layout.manifest(number)
    if generation is not None and not path.is_file():
        raise IndexStateError(f"{layout.root} has no generation {generation}, current is {current}")
    if number == current and hashlib.sha256(_read_bytes(path)).hexdigest() != sha256:
        raise IndexCorruptError(
            f"{path} is damaged: its sha256 is not the one in CURRENT; restore the file from a "
            "copy, or rebuild with --overwrite"
        )
    return read_manifest(layout, number)


def read_manifest(layout: Layout, generation: int) -> Manifest:
    """The manifest of a generation, published or not, without its hash being checked.

    Raises:
        IndexStateError: A newer ragkit wrote it.
        IndexCorruptError: It is missing or damaged.
    """
    path = layout.manifest(generation)
    manifest = _parse(path, _read_bytes(path))
    if manifest.generation != generation:
        raise IndexCorruptError(
            f"{path} holds generation {manifest.generation}, not {generation}: restore it"
        )
    return manifest


def generations(layout: Layout) -> list[int]:
    """Numbers of the manifests that are there, smallest first."""
    return sorted(int(p.stem) for p in layout.generations.glob("*.json") if p.stem.isdecimal())


def check_path(path: str) -> str:
    """`path` if it stays below the index directory.

    Raises:
        IndexCorruptError: It is absolute, or climbs out.
    """
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or ":" in path:
        raise IndexCorruptError(
            f"the manifest names {path!r}, which is not a path below the index: the manifest was "
            "tampered with, do not open this index"
        )
    return path


def _pointer(generation: int, sha256: str) -> bytes:
    line = {"generation": generation, "manifest": f"gen/{generation:06d}.json", "sha256": sha256}
    return json.dumps(line).encode() + b"\n"


def read_pointer(layout: Layout) -> tuple[int, str]:
    """Number of the current generation, and the sha256 of its manifest.

    Raises:
        ConfigError: There is no such index.
        IndexStateError: Nothing was published.
        IndexCorruptError: CURRENT is missing, or a byte of it is not as it was written.
    """
    layout.require_index()
    body = _read_bytes(layout.current)
    try:
        line = json.loads(body)
        generation, sha256 = int(line["generation"]), str(line["sha256"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged_pointer(layout) from error
    if body != _pointer(generation, sha256):
        raise _damaged_pointer(layout)
    return generation, sha256


def _damaged_pointer(layout: Layout) -> IndexCorruptError:
    return IndexCorruptError(
        f"{layout.current} is damaged: expected one JSON line naming the current generation; "
        f"generations on disk: {layout.known_generations() or 'none'}; restore CURRENT from a "
        "copy, or rebuild with --overwrite"
    )


def _read_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise IndexCorruptError(
                f"{path} is larger than {MAX_MANIFEST_BYTES} bytes: not a manifest"
            )
        return path.read_bytes()
    except OSError as error:
        raise IndexCorruptError(
            f"{path} cannot be read ({error.strerror}): restore it from a copy"
        ) from error


def _parse(path: Path, body: bytes) -> Manifest:
    try:
        tree = json.loads(body)
        _require_version(path, tree)
        segments = tuple(_segment(segment) for segment in tree.pop("segments"))
        canary = tree.pop("canary")
        _require_types(tree, segments)
        known = {field.name for field in dataclasses.fields(Manifest)}
        return Manifest(
            **{key: value for key, value in tree.items() if key in known and key != "sources"},
            sources=tuple(tree["sources"]),
            segments=segments,
            canary=None if canary is None else _file(canary),
        )
    except _MALFORMED as error:
        raise IndexCorruptError(
            f"{path} is not a manifest of {FORMAT} {FORMAT_VERSION} ({error}): restore it"
        ) from error


def _require_version(path: Path, tree: Mapping[str, Any]) -> None:
    if tree["format"] != FORMAT:
        raise IndexCorruptError(f"{path} says format {tree['format']!r}, expected {FORMAT!r}")
    major = int(str(tree["format_version"]).partition(".")[0])
    known_major, _, known_minor = FORMAT_VERSION.partition(".")
    minor = int(str(tree["format_version"]).partition(".")[2])
    if major == int(known_major) and minor > int(known_minor):
        logger.warning("%s has a newer format: what that adds is ignored", path)
    if major > int(known_major):
        raise IndexStateError(
            f"{path} has format version {tree['format_version']}, this ragkit reads up to "
            f"{FORMAT_VERSION}: upgrade with `pip install -U ragkit`"
        )


def _require_types(tree: Mapping[str, Any], segments: tuple[SegmentEntry, ...]) -> None:
    """What the code relies on without looking again."""
    groups = ("ann", "build", "counts", "model", "quality", "settings", "versions")
    if not all(isinstance(tree[name], dict) for name in groups):
        raise ValueError(f"one of {', '.join(groups)} is no object")
    if tree["metric"] not in get_args(Metric) or not isinstance(tree["dim"], int):
        raise ValueError(f"metric {tree['metric']!r}, dim {tree['dim']!r}")
    if not segments or not isinstance(tree["model"].get("name"), str | None):
        raise ValueError("no segments, or the model's name is no text")


def _segment(tree: Mapping[str, Any]) -> SegmentEntry:
    files = tuple(_file(entry) for entry in tree["files"])
    rows, base = int(tree["rows"]), int(tree["base"])
    return SegmentEntry(check_path(str(tree["id"])), rows, base, files)


def _file(tree: Mapping[str, Any]) -> FileEntry:
    return FileEntry(check_path(str(tree["path"])), int(tree["bytes"]), str(tree["xxh3"]))
