"""Trains a faiss index on a sample of the rows and adds all of them, block by block."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.console import progress
from ragkit.errors import ConfigError
from ragkit.index.faiss.chatter import capture_stderr
from ragkit.index.faiss.runtime import openmp_threads
from ragkit.index.faiss.structure import Structure, inspect, layers, reason
from ragkit.index.vectors import Vectors

ROWS_PER_ADD = 1 << 16
SAMPLE_PER_LIST = 100
MIN_SAMPLE_PER_LIST = 30
MIN_SAMPLE = 1 << 14
"""Rows that codebooks and rotations are trained on where there are few lists."""

EF_CONSTRUCTION = 64


def draw_sample(vectors: Vectors, structure: Structure, *, seed: int) -> NDArray[np.float32]:
    """Rows to train on, `[sample, dim]`, drawn uniformly over all rows.

    Raises:
        ConfigError: There are too few rows for the number of lists.
    """
    needed = MIN_SAMPLE_PER_LIST * structure.num_lists
    if len(vectors) < needed:
        raise ConfigError(
            f"{structure.num_lists} lists need at least {needed} rows to train on, found "
            f"{len(vectors)}: choose at most {len(vectors) // MIN_SAMPLE_PER_LIST} lists, or exact"
        )
    size = min(len(vectors), max(SAMPLE_PER_LIST * structure.num_lists, MIN_SAMPLE))
    if size == len(vectors):
        return vectors.read(0, size)
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(vectors), size, replace=False, shuffle=False)
    return vectors.take(np.sort(rows))


def train(index: Any, vectors: Vectors, *, seed: int, threads: int, deterministic: bool) -> None:  # noqa: ANN401
    """Train `index` in place, if it needs training.

    Raises:
        ConfigError: There are too few rows for this index type.
    """
    structure = inspect(index)
    if structure.kind == "hnsw":
        layers(index)[-1].hnsw.efConstruction = EF_CONSTRUCTION
    if index.is_trained:
        return
    sample = draw_sample(vectors, structure, seed=seed)
    # A learnt rotation comes out differently with another number of threads.
    alone = deterministic and structure.transformed
    try:
        with progress("train index", total=len(sample)) as bar:
            with capture_stderr(), openmp_threads(1 if alone else threads):
                index.train(sample)
            bar.advance(len(sample))
    except RuntimeError as error:
        raise ConfigError(
            f"the index type cannot be trained on {len(sample)} rows ({reason(error)}): "
            "choose a smaller one, or exact"
        ) from error


def add(index: Any, vectors: Vectors, *, threads: int, deterministic: bool) -> None:  # noqa: ANN401
    """Add all rows to `index` in place."""
    # Threads insert into a graph in an order that varies.
    alone = deterministic and inspect(index).kind in ("hnsw", "other")
    with progress("add vectors", total=len(vectors)) as bar:
        for _, values in vectors.blocks(ROWS_PER_ADD):
            with capture_stderr(), openmp_threads(1 if alone else threads):
                index.add(values)
            bar.advance(len(values))
