"""What a build will take, before it starts: rows, tokens, time, disk, memory and index type."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ragkit.data import Rejects, read_documents
from ragkit.encoders.base import Encoder
from ragkit.errors import DataError
from ragkit.index.choose import AnnChoice
from ragkit.index.vectors import VALUE_BYTES
from ragkit.retrieval.ann import (
    choose,
    require_factory,
    require_kept_vectors,
)
from ragkit.retrieval.build import load_build_encoder
from ragkit.retrieval.cutting import Row, format_passage, make_cutter
from ragkit.retrieval.embed import read_matrix
from ragkit.retrieval.options import BuildOptions
from ragkit.retrieval.stages import common_dim, require_encoder
from ragkit.retrieval.units import format_size
from ragkit.storage import free_bytes
from ragkit.types import Document

SCHEMA = "ragkit.plan/1"
SAMPLE_DOCUMENTS = 500
PROBE_PASSAGES = 64
# Offsets, hashes, keys and padding of one passage, beyond its texts.
BYTES_PER_ROW = 120


@dataclass(frozen=True)
class BuildPlan:
    """Estimates for a build.

    Args:
        encode_s: Wall time of the encoder on this device; 0 for ready vectors.
        disk_bytes: Size of the published index.
        temporary_bytes: What lies beside it until the build ends.
        ann: Index type.
        ann_bytes: Size of its FAISS index on the disk and in memory.
        alternatives: Other types, in the order in which they would be tried.
    """

    documents: int
    passages: int
    tokens: int
    encode_s: float
    ann: str
    ann_reason: str
    ann_bytes: int
    ann_build_s: float
    latency_s: float
    alternatives: tuple[str, ...]
    disk_bytes: int
    temporary_bytes: int
    free_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON values, `schema` first."""
        return {"schema": SCHEMA, "ok": True, **asdict(self)}

    def as_rows(self) -> list[tuple[str, str]]:
        """Name and value of each line of a table."""
        return [
            ("documents", f"{self.documents:,}"),
            ("passages", f"about {self.passages:,}"),
            ("tokens", f"about {self.tokens:,}"),
            ("encoding", f"about {self.encode_s:.0f} s on this device"),
            ("index type", f"{self.ann} ({self.ann_reason})"),
            ("alternatives", ", ".join(self.alternatives) or "none"),
            *self._ann_rows(),
            ("index on disk", format_size(self.disk_bytes)),
            ("beside it, while building", format_size(self.temporary_bytes)),
            ("free on that disk", format_size(self.free_bytes)),
        ]

    def _ann_rows(self) -> list[tuple[str, str]]:
        if self.latency_s == 0:
            return [("its size and speed", "not estimated for an index type that was named")]
        return [
            ("its size", format_size(self.ann_bytes)),
            ("its build", f"about {self.ann_build_s:.0f} s on one core"),
            ("one query", f"about {1e3 * self.latency_s:.1f} ms on one thread"),
        ]


def plan_build(inputs: Sequence[str], out: Path, options: BuildOptions) -> BuildPlan:
    """Read all documents, cut and tokenise a sample of them, and time the encoder on a few.

    Raises:
        DataError: The input was rejected, or holds nothing.
    """
    encoder = load_build_encoder(options)
    matrix = read_matrix(options.embeddings) if options.embeddings else None
    dim = common_dim(encoder, matrix)
    with Rejects() as rejects:
        documents = read_documents(inputs, options=options.read, rejects=rejects)
        sample, count, text_bytes = _sample(documents, rng=np.random.default_rng(options.seed))
    if not count:
        raise DataError(f"no documents in {', '.join(inputs)}: check the path and --format")
    rows = list(make_cutter(encoder, options).cut(sample))
    passages = max(1, round(len(rows) * count / len(sample)))
    tokens = round(sum(len(ids) for _, ids in rows) * count / len(sample))
    require_factory(options, dim=dim)
    require_kept_vectors(options, num_rows=passages, dim=dim)
    choice = choose(passages, dim, options=options)
    if options.ann != "auto":
        known = (choice, *choice.runners_up)
        unknown = AnnChoice(options.ann, "asked for", 0, 0.0, 0.0)
        choice = next((one for one in known if one.factory == options.ann), unknown)
    kept = 0 if options.keep_vectors == "none" else VALUE_BYTES[options.stored_dtype]
    stored, parted = (passages * dim * each for each in (kept, VALUE_BYTES[options.part_dtype]))
    text = text_bytes + passages * BYTES_PER_ROW
    return BuildPlan(
        documents=count,
        passages=passages,
        tokens=tokens,
        encode_s=0 if options.embeddings else tokens * _token_s(encoder, rows, options.template),
        ann=choice.factory,
        ann_reason=choice.reason,
        ann_bytes=choice.size_bytes,
        ann_build_s=choice.build_s,
        latency_s=choice.latency_s,
        alternatives=tuple(other.factory for other in choice.runners_up),
        disk_bytes=text + stored + choice.size_bytes,
        temporary_bytes=text + 4 * tokens + parted,
        free_bytes=free_bytes(out),
    )


def _sample(
    documents: Iterable[Document], *, rng: np.random.Generator
) -> tuple[list[Document], int, int]:
    """A uniform sample of the documents, their number, and the bytes of their texts."""
    sample: list[Document] = []
    count = text_bytes = 0
    for document in documents:
        count += 1
        text_bytes += sum(len(text.encode()) for text in (document.text, document.title))
        if len(sample) < SAMPLE_DOCUMENTS:
            sample.append(document)
        elif (place := int(rng.integers(count))) < SAMPLE_DOCUMENTS:
            sample[place] = document
    return sample, count, text_bytes


def _token_s(encoder: Encoder | None, rows: Sequence[Row], template: str) -> float:
    """Seconds that the encoder takes for one token."""
    encoder = require_encoder(encoder)
    probe = rows[:: max(1, len(rows) // PROBE_PASSAGES)]
    texts = [format_passage(template, title=p.title, text=p.text) for p, _ in probe]
    encoder.encode(texts[:4], role="passage")  # the first call of a model is slower
    started = time.perf_counter()
    encoder.encode(texts, role="passage")
    return (time.perf_counter() - started) / sum(len(ids) for _, ids in probe)
