"""What a build did, for a person and as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragkit.index.layout import Layout
from ragkit.index.manifest import Manifest

SCHEMA = "ragkit.build/1"


@dataclass(frozen=True)
class BuildReport:
    """The outcome of `build_index`.

    Args:
        rejects: File with the refused and altered rows; `None` if there were none.
        unchanged: The index already held exactly this, nothing was done.
    """

    path: Path
    manifest: Manifest
    rejects: Path | None
    unchanged: bool = False

    @property
    def counts(self) -> Mapping[str, int]:
        """Documents, passages and what happened to rows, by kind."""
        return self.manifest.counts

    @property
    def content_hash(self) -> str:
        """Equal for equal content."""
        return self.manifest.content_hash

    @property
    def seconds(self) -> Mapping[str, float]:
        """Wall time of each stage."""
        return self.manifest.build["seconds"]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values, `schema` first."""
        return {
            "schema": SCHEMA,
            "ok": True,
            "unchanged": self.unchanged,
            "rejects": None if self.rejects is None else str(self.rejects),
            **describe(self.path, self.manifest),
            "counts": dict(self.counts),
            "quality": dict(self.manifest.quality),
            "seconds": dict(self.seconds),
            "files": [
                {"path": file.path, "bytes": file.bytes, "xxh3": file.xxh3}
                for file in self.manifest.files
            ],
        }


def describe(path: Path, manifest: Manifest) -> dict[str, Any]:
    """The facts of `ragkit index info`, as JSON values."""
    layout = Layout(path)
    return {
        "path": str(path),
        "passages": manifest.num_passages,
        "documents": manifest.counts["documents"],
        "dim": manifest.dim,
        "metric": manifest.metric,
        "encoder": manifest.model.get("name"),
        "ann": manifest.ann["factory"],
        "generation": manifest.generation,
        "content_hash": manifest.content_hash,
        "size_bytes": sum(file.bytes for file in manifest.files)
        + layout.manifest(manifest.generation).stat().st_size,
    }
