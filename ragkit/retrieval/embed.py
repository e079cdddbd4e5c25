"""Second stage of a build: vectors for every part, journalled so that a kill loses one part."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ragkit.console import progress
from ragkit.data import Rejects
from ragkit.encoders.base import Encoder
from ragkit.errors import ConfigError, DataError, ShapeError
from ragkit.index.vectors import VectorDtype, Vectors, encode
from ragkit.index.workspace import Workspace
from ragkit.retrieval.prepare import Part
from ragkit.storage import durable_file, hash_file
from ragkit.types import Metric

# Shorter vectors have no direction that could be compared.
MIN_NORM = 1e-12
# Vectors that an encoder normalised stay as they are, bit for bit.
UNIT_ATOL = 1e-5


class VectorSource(Protocol):
    """Where the vectors of a part come from."""

    def key(self, part: Part, *, first_row: int) -> str:
        """Equal for parts that have equal vectors."""
        ...

    def vectors(self, part: Part, *, first_row: int) -> NDArray[np.float32]:
        """One vector per passage of the part, `[rows, dim]`; a vector may hold NaN."""
        ...


class EncoderSource:
    """Vectors from a model."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def key(self, part: Part, *, first_row: int) -> str:
        """The part's own: what is embedded decides, not where it stands."""
        return part.key

    def vectors(self, part: Part, *, first_row: int) -> NDArray[np.float32]:
        """The embeddings of the part's tokens."""
        return self._encoder.embed(part.tokens())


class MatrixSource:
    """Vectors that were computed elsewhere, one row per passage.

    Raises:
        ShapeError: The number of rows is not the number of passages.
    """

    def __init__(self, matrix: NDArray[np.float32], *, num_passages: int) -> None:
        if len(matrix) != num_passages:
            raise ShapeError(
                f"the embeddings have {len(matrix)} rows, the input has {num_passages} passages: "
                "give one row per passage, in the order of the input, and none for refused rows"
            )
        self._matrix = matrix

    def key(self, part: Part, *, first_row: int) -> str:
        """The part's, and where it stands, since that decides which rows of the matrix it gets."""
        return f"{part.key}-{first_row}"

    def vectors(self, part: Part, *, first_row: int) -> NDArray[np.float32]:
        """The rows of the part."""
        return np.asarray(self._matrix[first_row : first_row + part.rows], np.float32)


@dataclass(frozen=True, slots=True)
class EmbeddedPart:
    """A part and its vectors on the disk.

    Args:
        bad_rows: Rows without a usable vector, which the index leaves out.
    """

    part: Part
    path: Path
    dim: int
    dtype: VectorDtype
    bad_rows: tuple[int, ...]

    def good_rows(self) -> NDArray[np.int64]:
        """Rows that go into the index."""
        return np.setdiff1d(np.arange(self.part.rows), np.array(self.bad_rows, np.int64))

    def read(self) -> NDArray[np.float32]:
        """The vectors of the good rows, `[rows, dim]`."""
        stored = Vectors.open(self.path, rows=self.part.rows, dim=self.dim, dtype=self.dtype)
        return stored.take(self.good_rows())


def embed_parts(
    parts: Sequence[Part],
    *,
    source: VectorSource,
    workspace: Workspace,
    dim: int,
    dtype: VectorDtype,
    metric: Metric,
) -> list[EmbeddedPart]:
    """Every part with its vectors; those that the journal already holds are not embedded again.

    Args:
        dtype: How the vectors are kept until the segment is written: `f32` or `f16`.
        metric: For `cosine` each vector is scaled to length 1.

    Raises:
        StorageError: The disk is full or failing.
    """
    done: dict[str, dict[str, Any]] = {line["key"]: line for line in workspace.journal.read()}
    embedded: list[EmbeddedPart] = []
    first_row = num_tokens = 0
    started = time.perf_counter()
    with progress("embed", total=sum(part.rows for part in parts)) as bar:
        for part in parts:
            key = source.key(part, first_row=first_row)
            path = workspace.parts / f"{key}.{dtype}"
            line = done.get(key)
            if line is None or not path.is_file() or hash_file(path) != line["xxh3"]:
                vectors = source.vectors(part, first_row=first_row)
                line = {"key": key, **_keep(path, vectors, part.rows, dtype, dim, metric)}
                workspace.journal.append(line)
                num_tokens += part.num_tokens
            embedded.append(EmbeddedPart(part, path, dim, dtype, tuple(line["bad_rows"])))
            first_row += part.rows
            bar.advance(part.rows, tokens_per_s=round(num_tokens / (time.perf_counter() - started)))
    return embedded


def report_bad(embedded: Sequence[EmbeddedPart], rejects: Rejects) -> int:
    """Enter the rows without a usable vector among the rejects; how many there are."""
    for item in embedded:
        sources = item.part.passages().column("source")
        for row in item.bad_rows:
            reason = "the vector holds NaN or infinity, or has length 0"
            rejects.refuse(sources[row].as_py(), reason, code="bad_vector")
    return sum(len(item.bad_rows) for item in embedded)


def vector_blocks(embedded: Sequence[EmbeddedPart]) -> Iterator[NDArray[np.float32]]:
    """The good vectors of all parts, in order, `[rows, dim]` each."""
    for item in embedded:
        yield item.read()


def int8_scale(embedded: Sequence[EmbeddedPart]) -> NDArray[np.float32]:
    """The factor of each dimension that maps its largest value to 127, `[dim]`."""
    blocks = (block for block in vector_blocks(embedded) if len(block))
    largest = np.max([np.abs(block).max(axis=0) for block in blocks], axis=0)
    return np.maximum(largest, np.finfo(np.float32).tiny).astype(np.float32) / np.float32(127)


def read_matrix(path: str) -> NDArray[np.float32]:
    """The matrix in a .npy or .safetensors file, mapped where possible, `[rows, dim]`.

    Raises:
        DataError: The file is missing, holds objects, or is no matrix of floats.
    """
    from safetensors import SafetensorError

    try:
        matrix = _load(Path(path))
    except (OSError, ValueError, TypeError, KeyError, EOFError, SafetensorError) as error:
        raise DataError(
            f"{path} is no .npy or .safetensors file with one matrix of floats ({error}); pickled "
            "arrays are never read"
        ) from error
    if matrix.ndim != 2 or matrix.dtype.kind != "f" or not matrix.shape[1]:
        raise DataError(f"{path}: expected a matrix of floats, found {matrix.dtype} {matrix.shape}")
    return matrix


def _load(path: Path) -> NDArray[np.float32]:
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        tensors = load_file(path)
        if len(tensors) != 1:
            raise ValueError(f"it holds {len(tensors)} tensors, expected 1")
        return next(iter(tensors.values()))
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _keep(
    path: Path,
    vectors: NDArray[np.float32],
    rows: int,
    dtype: VectorDtype,
    dim: int,
    metric: Metric,
) -> dict[str, Any]:
    """Store the vectors of a part; what the journal says of them."""
    if vectors.shape != (rows, dim):
        raise ShapeError(
            f"the encoder gave {list(vectors.shape)} for {rows} passages of width {dim}: "
            "check its `dim`"
        )
    norms = np.linalg.norm(vectors, axis=1)  # [rows]
    bad = ~np.isfinite(norms) | ((metric == "cosine") & (norms < MIN_NORM))
    vectors = np.where(bad[:, None], np.float32(0), vectors)
    if metric == "cosine" and not np.allclose(norms[~bad], 1, atol=UNIT_ATOL):
        vectors = (vectors / np.where(bad, 1, norms)[:, None]).astype(np.float32)
    stored = encode(vectors, dtype, None)
    if not np.isfinite(stored).all():
        raise ConfigError("a vector is too large for f16: build with --keep-vectors f32")
    with durable_file(path) as file:
        file.write(stored.data)
    bad_rows = np.flatnonzero(bad).tolist()
    return {"rows": rows, "bad_rows": bad_rows, "xxh3": file.xxh3}
