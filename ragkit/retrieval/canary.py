"""Embeddings of fixed texts, kept with an index, which tell whether the encoder is still the same.

A name does not: weights change under it, a prefix gets lost, the pooling is another one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.encoders.base import Encoder
from ragkit.errors import IndexCorruptError, ModelMismatchError
from ragkit.index.manifest import FileEntry, Manifest
from ragkit.index.storage import durable_file, hash_file

TEXTS = (
    "What is the capital of France?",
    "The mitochondrion is the powerhouse of the cell.",
    "Returns the largest item of an iterable, or the default if it is empty.",
    "She closed the ledger, looked at the rain, and decided not to go.",
    "E = mc^2 relates energy, mass and the speed of light.",
    "Die Katze schl\u00e4ft auf dem warmen Dach.",
    "error: could not open file 'data.csv': permission denied (13)",
    "1969, 42, 3.14159, and -273.15 degrees",
)
FEW = 2

# Other dtypes and kernels stay above; the nearest fault seen, a lost prefix, falls below.
MIN_COSINE = 0.999
# At that cosine the error is this share of a vector's length, so lengths may differ by as much.
MAX_STRETCH = 0.05

# Fields of the model's description, and what a difference in them means.
CAUSES = {
    "weights_sha256": "other weights",
    "tokenizer_sha256": "another tokenizer",
    "pooling": "another pooling",
    "normalize": "another normalisation",
    "query_prefix": "another query prefix",
    "passage_prefix": "another passage prefix",
    "max_seq_length": "another maximum length",
    "dim": "another dimension",
    "dtype": "another dtype",
}


def write_canary(path: Path, name: str, encoder: Encoder) -> FileEntry:
    """Store the embeddings of `TEXTS`, as query and as passage, at `path`; its manifest entry."""
    vectors = np.ascontiguousarray(_embed(encoder, len(TEXTS)).astype("<f4"))  # [2, texts, dim]
    with durable_file(path) as file:
        file.write(vectors.data)
    return FileEntry(name, file.size_bytes, file.xxh3)


def require_same_model(
    root: Path, manifest: Manifest, encoder: Encoder, *, every_text: bool = False
) -> None:
    """Compare the encoder with the canary of the index.

    Args:
        every_text: All texts instead of two.

    Raises:
        ModelMismatchError: The encoder embeds differently; the message names the likely cause.
        IndexCorruptError: The canary itself is damaged.
    """
    if manifest.canary is None:
        return
    if encoder.dim != manifest.dim:
        raise _mismatch(manifest, encoder, f"it gives {encoder.dim} dimensions, not {manifest.dim}")
    path = root / manifest.canary.path
    if not path.is_file() or hash_file(path) != manifest.canary.xxh3:
        raise IndexCorruptError(f"{path} is missing or damaged: restore it from a copy, or rebuild")
    expected = np.fromfile(path, "<f4").reshape(2, len(TEXTS), manifest.dim)
    count = len(TEXTS) if every_text else FEW
    cosine, ratio = _compare(_embed(encoder, count), expected[:, :count])  # [2, texts]
    if not (cosine.min() >= MIN_COSINE and np.abs(ratio - 1).max() <= MAX_STRETCH):
        raise _mismatch(
            manifest,
            encoder,
            "the vectors of fixed texts have these cosines to those of the index: query "
            f"{cosine[0].min():.4f}, passage {cosine[1].min():.4f}, and {ratio.mean():.3g} times "
            "their length",
        )


def _embed(encoder: Encoder, count: int) -> NDArray[np.float32]:
    """`[2, count, dim]`: as query and as passage."""
    texts = TEXTS[:count]
    return np.stack([encoder.encode(texts, role="query"), encoder.encode(texts, role="passage")])


def _compare(
    found: NDArray[np.float32], expected: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosine and ratio of the lengths of each pair of vectors, `[2, texts]` each."""
    dots = np.einsum("rtd,rtd->rt", found, expected, dtype=np.float64)
    lengths = np.linalg.norm(found.astype(np.float64), axis=2)
    others = np.maximum(np.linalg.norm(expected, axis=2), np.finfo(np.float32).tiny)
    return dots / np.maximum(lengths * others, np.finfo(np.float64).tiny), lengths / others


def _mismatch(manifest: Manifest, encoder: Encoder, found: str) -> ModelMismatchError:
    causes = _causes(manifest.model, encoder.describe()) or ["unknown: the descriptions agree"]
    return ModelMismatchError(
        f"the encoder is not the one that embedded this index: {found}; likely cause: "
        f"{'; '.join(causes)}; use the model {manifest.model.get('name')!r} as it was, or rebuild "
        "the index with the new one"
    )


def _causes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{meaning} ({then.get(field)!r} then, {now.get(field)!r} now)"
        for field, meaning in CAUSES.items()
        if then.get(field) != now.get(field)
    ]
