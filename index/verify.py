"""Is every byte of the current generation as it was published?"""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ragkit.console import track
from ragkit.errors import IndexCorruptError, IndexStateError
from ragkit.index.layout import Layout
from ragkit.index.manifest import FileEntry, Manifest, read_current, read_pointer
from ragkit.index.segment import check_file, open_segment
from ragkit.storage import hash_file
from ragkit.types import Metric


@dataclass(frozen=True, slots=True)
class Fault:
    """A file that is not as it was published."""

    file: str
    reason: str


def verify_index(root: Path, *, generation: int | None = None, full: bool = True) -> list[Fault]:
    """What is wrong with the generation; empty if nothing is.

    Args:
        full: Read and hash every byte; otherwise compare sizes, row counts and headers, and hash
            segment.json.

    Raises:
        ConfigError: There is no index at `root`.
        IndexStateError: Nothing was published there.
    """
    layout = Layout(root)
    try:
        current, _ = read_pointer(layout)
    except IndexCorruptError as error:
        return [Fault(layout.current.name, str(error))]
    try:
        manifest = read_current(layout, generation=generation)
    except IndexCorruptError as error:
        path = layout.manifest(current if generation is None else generation)
        return [Fault(path.relative_to(root).as_posix(), str(error))]
    faults = [
        fault
        for entry in track(manifest.files, description="verify", total=len(manifest.files))
        if (fault := _check(root, entry, full=full)) is not None
    ]
    return faults or _open_all(root, manifest)


def raise_faults(faults: list[Fault]) -> None:
    """Raise IndexCorruptError naming the first fault, if there is one."""
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise IndexCorruptError(f"{faults[0].file}: {faults[0].reason}{more}")


def _check(root: Path, entry: FileEntry, *, full: bool) -> Fault | None:
    try:
        check_file(root, entry)
        if full and hash_file(root / entry.path) != entry.xxh3:
            return Fault(
                entry.path,
                "its content changed: the hash is not the manifest's; restore it from a copy",
            )
    except IndexCorruptError as error:
        return Fault(entry.path, str(error))
    except OSError as error:
        return Fault(entry.path, f"cannot be read: {error.strerror}")
    return None


def _open_all(root: Path, manifest: Manifest) -> list[Fault]:
    """The files are as written; do they also fit together?"""
    for entry in manifest.segments:
        try:
            open_segment(root, entry, metric=cast(Metric, manifest.metric), hash_small=False)
        except IndexStateError as error:
            return [Fault(f"seg/{entry.id}", str(error))]
    return []
