"""Last stage of a build: move the segment in place and make it the current generation."""

import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
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
from ragkit.index.storage import make_folder, rename_folder
from ragkit.index.workspace import Workspace, clear
from ragkit.retrieval.ann import Indexed
from ragkit.retrieval.canary import write_canary
from ragkit.retrieval.environment import versions


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
        versions=versions(),
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

    Does nothing while the current manifest is missing, or any is damaged: what it names is not
    known.
    """
    try:
        current = read_current(layout).generation if layout.is_index() else None
        published = {number: read_manifest(layout, number) for number in generations(layout)}
    except IndexStateError:
        return
    for number, manifest in list(published.items()):
        if not (layout.builds / str(manifest.build.get("workspace"))).is_dir():
            continue
        if number == current:  # all was done but the tidying
            clear(layout)
        elif number > (current or 0):
            layout.manifest(number).unlink()
            del published[number]
    named = {entry.id for manifest in published.values() for entry in manifest.segments}
    for folder in layout.segments.glob("*"):
        if folder.name not in named and is_segment_id(folder.name):
            shutil.rmtree(folder)


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
