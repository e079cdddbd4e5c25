"""Embeddings of fixed texts, kept with an index, which tell whether the encoder is still the same.

A name does not: weights change under it, a prefix gets lost, the pooling is another one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.encoders.base import Encoder
from ragkit.errors import ConfigError, IndexCorruptError, ModelMismatchError
from ragkit.index.manifest import FileEntry, Manifest
from ragkit.storage import durable_file, hash_file

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
MIN_COSINE_OF_OTHER_WEIGHTS = 0.99999
# Ready vectors may come from fp16, int8 or another cut of long texts.
MIN_COSINE_OF_READY = 0.95
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
    """Store the embeddings of `TEXTS`, as query and as passage, at `path`; its manifest entry.

    Raises:
        ConfigError: The encoder gives no finite vector for one of them.
    """
    vectors = np.ascontiguousarray(_embed(encoder, len(TEXTS)).astype("<f4"))  # [2, texts, dim]
    if not np.isfinite(vectors).all():
        raise ConfigError(f"the encoder gives NaN for {TEXTS[0]!r} or its like: try --dtype fp32")
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
    least = _least_cosine(manifest.model, encoder.describe())
    if not (cosine.min() >= least and np.abs(ratio - 1).max() <= MAX_STRETCH):
        raise _mismatch(
            manifest,
            encoder,
            "the vectors of fixed texts have these cosines to those of the index: query "
            f"{cosine[0].min():.6f}, passage {cosine[1].min():.6f}, and {ratio.mean():.3g} times "
            "their length",
        )


def _least_cosine(then: Mapping[str, Any], now: Mapping[str, Any]) -> float:
    """Other weights in the same dtype must give the same vectors: they may have been saved anew."""
    other_weights = then.get("weights_sha256") != now.get("weights_sha256")
    same_dtype = then.get("dtype") == now.get("dtype")
    return MIN_COSINE_OF_OTHER_WEIGHTS if other_weights and same_dtype else MIN_COSINE


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
    others = np.linalg.norm(expected.astype(np.float64), axis=2)
    # Two vectors without length are equal: a bag of words may know none of the texts.
    empty = (lengths == 0) & (others == 0)
    tiny = np.finfo(np.float64).tiny
    cosine = np.where(empty, 1, dots / np.maximum(lengths * others, tiny))
    return cosine, np.where(empty, 1, lengths / np.maximum(others, tiny))


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


def require_made_by(
    encoder: Encoder, passages: Sequence[str], vectors: NDArray[np.float32]
) -> None:
    """Compare ready vectors with what the encoder gives for some of their passages.

    Args:
        vectors: `[passages, dim]`.

    Raises:
        ModelMismatchError: The vectors are of another model.
    """
    norms = np.linalg.norm(vectors, axis=1)
    usable = np.isfinite(norms) & (norms > 0)  # the others are refused one by one later
    if not usable.any():
        return
    found = encoder.encode(passages, role="passage")
    cosine, _ = _compare(found[None, usable], vectors[None, usable])
    if not cosine.min() >= MIN_COSINE_OF_READY:
        raise ModelMismatchError(
            f"the embeddings are not of the encoder {encoder.describe().get('name')!r}: the cosine "
            f"of a passage is {cosine.min():.4f}; name the encoder that made them, or --encoder '' "
            "for queries by vector only"
        )
