"""What decides the content of an index, and whether one that is there was built the same way."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ragkit.differences import differences
from ragkit.encoders.base import Encoder
from ragkit.errors import IndexStateError
from ragkit.index.manifest import Manifest
from ragkit.retrieval.options import BuildOptions
from ragkit.storage import hash_file

REQUEST = (
    "ann",
    "deterministic",
    "faiss_device",
    "keep_vectors",
    "latency",
    "max_build_time",
    "memory",
    "recall",
    "seed",
)


def content_settings(options: BuildOptions, encoder: Encoder | None, *, dim: int) -> dict[str, Any]:
    """Whatever decides the passages and their vectors, as JSON values."""
    embeddings = options.embeddings
    settings = {
        "model": {"name": None, "dim": dim} if encoder is None else encoder.describe(),
        "metric": options.chosen_metric,
        "template": options.template,
        "chunk": options.chunk,
        "on_long": options.on_long,
        "on_duplicate": options.on_duplicate,
        "dedup": options.dedup,
        "read": dataclasses.asdict(options.read),
        "embeddings": None if embeddings is None else hash_file(Path(embeddings)),
        "part_dtype": options.part_dtype,
        "part_rows": options.part_rows,
    }
    return json.loads(json.dumps(settings))


def index_request(options: BuildOptions) -> dict[str, Any]:
    """Whatever decides the index beyond its vectors, as JSON values."""
    queries = options.eval_queries
    request = {name: getattr(options, name) for name in REQUEST}
    return {**request, "eval_queries": None if queries is None else hash_file(Path(queries))}


def require_same_index(
    root: Path, current: Manifest, settings: Mapping[str, Any], request: Mapping[str, Any]
) -> None:
    """Refuse to take an index that was built otherwise for the one that is asked for.

    Raises:
        IndexStateError: It differs; the message lists in what.
    """
    there = {"model": current.model, **current.settings, **current.build["request"]}
    changed = differences(there, {**settings, **request})
    if changed:
        raise IndexStateError(
            "\n".join([f"{root} holds an index with other settings:", *changed, _WAY_OUT])
        )


def require_same_input(root: Path, current: Manifest, input_hash: str) -> None:
    """Refuse to take an index of other passages for the one that is asked for.

    Raises:
        IndexStateError: The passages differ.
    """
    if current.input_hash != input_hash:
        raise IndexStateError(f"{root} holds an index of other passages:\n{_WAY_OUT}")


_WAY_OUT = "pass --overwrite to publish a new generation, or choose another -o"
