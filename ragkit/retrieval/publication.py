"""Last stage of a build: move the segment in place and make it the current generation."""

import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ragkit.encoders.base import Encoder
from ragkit.errors import IndexStateError
from ragkit.index.layout import Layout, new_segment_id
from ragkit.index.manifest import FileEntry, Manifest, publish, read_current
from ragkit.index.segment import entry_of
from ragkit.index.storage import make_folder, rename_folder
from ragkit.index.workspace import Workspace
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
        build={"request": built.request, "seconds": built.seconds},
    )
    publish(layout, manifest)
    return manifest


def sweep_segments(layout: Layout) -> None:
    """Remove segments that a killed build had moved in place but not yet published.

    Does nothing while a manifest is missing or damaged: its segments are not known.
    """
    numbers = [int(path.stem) for path in layout.generations.glob("*.json")]
    try:
        published = [read_current(layout, generation=number) for number in numbers]
        if layout.is_index():
            published.append(read_current(layout))
    except IndexStateError:
        return
    named = {entry.id for manifest in published for entry in manifest.segments}
    for folder in layout.segments.glob("*"):
        if folder.name not in named:
            shutil.rmtree(folder)


def _lineage(layout: Layout) -> tuple[Manifest | None, int]:
    """The current generation, `None` if there is none or it is damaged, and the next number."""
    numbers = [int(path.stem) for path in layout.generations.glob("*.json")]
    following = max(numbers, default=0) + 1
    try:
        return (read_current(layout) if layout.is_index() else None), following
    except IndexStateError:
        return None, following


def _write_canary(layout: Layout, generation: int, encoder: Encoder) -> FileEntry:
    name = f"gen/{generation:06d}.canary.f32"
    return write_canary(layout.root / name, name, encoder)
