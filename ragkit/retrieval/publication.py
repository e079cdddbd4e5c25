"""Last stage of a build: move the segment in place and make it the current generation."""

import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragkit.encoders.base import Encoder
from ragkit.errors import IndexStateError
from ragkit.index.layout import Layout, is_segment_id, new_segment_id
from ragkit.index.manifest import (
    FileEntry,
    Manifest,
    generations,
    publish,
    read_current,
    read_manifest,
    read_pointer,
)
from ragkit.index.segment import entry_of
from ragkit.index.workspace import Workspace, clear
from ragkit.retrieval.ann import Indexed
from ragkit.retrieval.canary import write_canary
from ragkit.storage import make_folder, remove_file, remove_folder, rename_folder
from ragkit.versions import versions

PACKAGES = (
    "faiss-cpu",
    "faiss-gpu",
    "faiss-gpu-cuvs",
    "numpy",
    "pyarrow",
    "sentence-transformers",
    "tokenizers",
    "torch",
    "transformers",
)


@dataclass(frozen=True)
class Built:
    """What the stages made, ready to be published."""

    indexed: Indexed
    dim: int
    metric: str
    keep_vectors: str
    settings: Mapping[str, Any]
    request: Mapping[str, Any]
    input_hash: str
    content_hash: str
    sources: Sequence[Mapping[str, Any]]
    counts: Mapping[str, int]
    seconds: Mapping[str, float]


def publish_build(
    layout: Layout, workspace: Workspace, built: Built, *, encoder: Encoder | None
) -> Manifest:
    """The manifest of the new generation, which readers see from now on.

    Raises:
        StorageError: The disk is full or failing; the previous generation stays current.
    """
    for folder in (layout.generations, layout.segments):
        make_folder(folder)
    current, generation = _lineage(layout)
    segment_id = new_segment_id()
    entry = entry_of(workspace.segment, segment_id, rows=built.counts["passages"], base=0)
    canary = None if encoder is None else _write_canary(layout, generation, encoder)
    rename_folder(workspace.segment, layout.segment(segment_id))
    manifest = Manifest(
        generation=generation,
        parent=None if current is None else current.generation,
        uuid=str(uuid.uuid4()) if current is None else current.uuid,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        versions=versions(PACKAGES),
        dim=built.dim,
        metric=built.metric,
        vector_dtype=built.keep_vectors,
        model=built.settings["model"],
        settings={name: value for name, value in built.settings.items() if name != "model"},
        input_hash=built.input_hash,
        content_hash=built.content_hash,
        sources=tuple(built.sources),
        counts=built.counts,
        segments=(entry,),
        ann=built.indexed.ann,
        quality=built.indexed.quality,
        canary=canary,
        build={
            "request": built.request,
            "seconds": built.seconds,
            "workspace": workspace.id,
        },
    )
    publish(layout, manifest)
    return manifest


def settle(layout: Layout) -> None:
    """Undo, or complete, what a build that was killed while it published left half done.

    Does nothing while CURRENT or its manifest is missing, or any manifest is damaged: what it
    names is not known. The segments of a lost manifest are as old as it, and stay.

    Raises:
        StorageError: Something cannot be removed.
    """
    unfinished = _names(layout.builds)
    begun = min(filter(is_segment_id, unfinished), default=None)
    if begun is None or (was_published(layout) and not layout.is_index()):
        return
    try:
        current = read_current(layout).generation if layout.is_index() else None
        published = {number: read_manifest(layout, number) for number in generations(layout)}
    except IndexStateError:
        return
    for number, manifest in list(published.items()):
        if _maker(manifest) not in unfinished:
            continue
        if number == current:  # all was done but the tidying
            clear(layout)
        elif number > (current or 0):
            remove_file(layout.manifest(number))
            del published[number]
    named = {entry.id for manifest in published.values() for entry in manifest.segments}
    for folder in layout.segments.glob("*"):
        # Ids sort by time: no older segment comes from the build that was killed.
        if folder.name > begun and folder.name not in named and is_segment_id(folder.name):
            remove_folder(folder)


def was_published(layout: Layout) -> bool:
    """Whether a generation was published here, even if CURRENT is lost.

    All that a first build leaves when it is killed names a folder below build/ that is still there.
    """
    if layout.is_index():
        return True
    manifests = generations(layout)
    try:
        makers = {_maker(read_manifest(layout, number)) for number in manifests}
    except IndexStateError:
        return True
    unfinished = _names(layout.builds)
    return not makers <= unfinished or (not unfinished and bool(_names(layout.segments)))


def _maker(manifest: Manifest) -> str:
    """The folder below build/ that it was made in."""
    return str(manifest.build.get("workspace"))


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*")}


def _lineage(layout: Layout) -> tuple[Manifest | None, int]:
    """The current generation, `None` if there is none or it is damaged, and the next number.

    No number comes twice, not even that of a generation whose manifest was lost.
    """
    numbers = generations(layout)
    current = None
    if layout.is_index():
        with suppress(IndexStateError):
            numbers.append(read_pointer(layout)[0])
            current = read_current(layout)
    return current, max(numbers, default=0) + 1


def _write_canary(layout: Layout, generation: int, encoder: Encoder) -> FileEntry:
    name = f"gen/{generation:06d}.canary.f32"
    return write_canary(layout.root / name, name, encoder)
