"""The stages of a build: read, embed, write, index, check, publish."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import xxhash
from numpy.typing import NDArray

from ragkit.data import Rejects, read_documents, sources
from ragkit.encoders.base import Encoder
from ragkit.errors import ConfigError, DataError
from ragkit.index.layout import Layout
from ragkit.index.manifest import Manifest, read_current
from ragkit.index.segment import SegmentFolder, content_hash
from ragkit.index.vectors import VALUE_BYTES
from ragkit.index.workspace import Workspace, clear
from ragkit.retrieval.ann import (
    Indexed,
    index_vectors,
    require_factory,
    require_kept_vectors,
)
from ragkit.retrieval.canary import require_made_by
from ragkit.retrieval.cutting import format_passage, make_cutter
from ragkit.retrieval.embed import (
    EmbeddedPart,
    EncoderSource,
    MatrixSource,
    VectorSource,
    embed_parts,
    int8_scale,
    report_bad,
    vector_blocks,
)
from ragkit.retrieval.options import BuildOptions
from ragkit.retrieval.prepare import Part, Uniqueness, prepare_parts
from ragkit.retrieval.publication import Built, publish_build, settle, was_published
from ragkit.retrieval.quality import read_query_texts, require_query_encoder
from ragkit.retrieval.report import BuildReport
from ragkit.retrieval.settings import (
    content_settings,
    index_request,
    require_same_index,
    require_same_input,
)
from ragkit.storage import require_free

# Ready vectors that are compared with those of the encoder that is named for them.
COMPARED = 4


class Build:
    """One run of a build; the methods are its stages, in order.

    Args:
        encoder: `None` if ready vectors are given and no queries by text are wanted.
        matrix: Ready vectors, one row per passage; `None` to embed.

    Raises:
        ConfigError: Encoder and vectors differ in width, or an option does not fit them.
    """

    def __init__(
        self,
        layout: Layout,
        inputs: Sequence[str],
        options: BuildOptions,
        *,
        encoder: Encoder | None,
        matrix: NDArray[np.float32] | None,
    ) -> None:
        self.layout, self.inputs, self.options = layout, inputs, options
        self.encoder, self.matrix = encoder, matrix
        self.dim = common_dim(encoder, matrix)
        self.seconds: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        require_factory(options, dim=self.dim)
        if options.eval_queries is not None:
            require_query_encoder(encoder)
            read_query_texts(options.eval_queries)

    def run(self) -> BuildReport:
        """Go through the stages, or find that the index is there already."""
        options, layout = self.options, self.layout
        current = self._current()
        settings = content_settings(options, self.encoder, dim=self.dim)
        request = index_request(options)
        if current is not None:
            require_same_index(layout.root, current, settings, request)
        settle(layout)
        if options.restart:
            clear(layout)
        workspace = Workspace.open(layout, settings, resume=options.resume)
        with Rejects(layout.rejects / f"{workspace.id}.jsonl") as rejects:
            with self._stage("read"):
                parts = self._prepare(workspace, rejects)
                read = list(sources(self.inputs, options=options.read))
            input_hash = xxhash.xxh3_128_hexdigest("".join(part.key for part in parts).encode())
            if current is not None:
                require_same_input(layout.root, current, input_hash)
                rejects.discard()
                return BuildReport(layout.root, current, None, unchanged=True)
            with self._stage("embed"):
                embedded = self._embed(parts, workspace, rejects)
        indexed, hashed = self._index(embedded, workspace)
        built = Built(
            indexed=indexed,
            dim=self.dim,
            metric=options.chosen_metric,
            keep_vectors=options.keep_vectors,
            settings=settings,
            request=request,
            input_hash=input_hash,
            content_hash=hashed,
            sources=read,
            counts=self.counts,
            seconds=self.seconds,
        )
        manifest = publish_build(layout, workspace, built, encoder=self.encoder)
        clear(layout)
        return BuildReport(layout.root, manifest, rejects.path if rejects.counts else None)

    def _current(self) -> Manifest | None:
        """The generation that this build may turn out to equal.

        Raises:
            IndexCorruptError: There was one, but CURRENT or its manifest is lost or damaged.
        """
        if self.options.overwrite:
            return None
        if self.layout.is_index():
            return read_current(self.layout)
        if was_published(self.layout):
            raise self.layout.lost_pointer()
        return None

    def _prepare(self, workspace: Workspace, rejects: Rejects) -> list[Part]:
        options = self.options
        unique = Uniqueness(options, rejects, last=self._last_ordinals())
        documents = read_documents(self.inputs, options=options.read, rejects=rejects)
        parts, num_documents = prepare_parts(
            unique.keep(documents),
            cutter=make_cutter(self.encoder, options),
            folder=workspace.parts,
            part_rows=options.part_rows,
        )
        unique.require_none()
        unique.require_unique_passages(parts)
        rejects.check(num_documents + rejects.refused, options.max_rejects)
        if not parts:
            raise DataError(
                f"no passages in {', '.join(self.inputs)} ({_counted(rejects)}): check the path, "
                "--format and --text-field"
            )
        rows = sum(part.rows for part in parts)
        self.counts |= {
            "documents": num_documents,
            "passages": rows,
            "tokens": sum(part.num_tokens for part in parts),
            "truncated": sum(part.num_truncated for part in parts),
        }
        require_kept_vectors(options, num_rows=rows, dim=self.dim)
        per_value = sum(VALUE_BYTES[dtype] for dtype in (options.part_dtype, options.stored_dtype))
        text_bytes = sum(part.path.stat().st_size for part in parts)
        require_free(self.layout.root, rows * self.dim * per_value + text_bytes)
        return parts

    def _last_ordinals(self) -> dict[str, int]:
        """Where each id occurs last; read only for the policy that needs it."""
        if self.options.on_duplicate != "keep-last":
            return {}
        if "-" in self.inputs:
            raise ConfigError("keep-last reads the input twice, which stdin cannot: give a file")
        with Rejects() as ignored:
            documents = read_documents(self.inputs, options=self.options.read, rejects=ignored)
            return {document.id: ordinal for ordinal, document in enumerate(documents)}

    def _embed(
        self, parts: Sequence[Part], workspace: Workspace, rejects: Rejects
    ) -> list[EmbeddedPart]:
        options = self.options
        embedded = embed_parts(
            parts,
            source=self._source(parts),
            workspace=workspace,
            dim=self.dim,
            dtype=options.part_dtype,
            metric=options.chosen_metric,
        )
        passages = self.counts["passages"] - report_bad(embedded, rejects)
        rejects.check(self.counts["passages"], options.max_rejects)
        if not passages:
            raise DataError("no passage has a usable vector: every one holds NaN or has length 0")
        self.counts |= {"passages": passages, **rejects.counts}
        return embedded

    def _source(self, parts: Sequence[Part]) -> VectorSource:
        """Where the vectors come from, after ready ones were compared with the encoder's."""
        if self.matrix is None:
            return EncoderSource(require_encoder(self.encoder))
        source = MatrixSource(self.matrix, num_passages=sum(part.rows for part in parts))
        if self.encoder is not None:
            rows = parts[0].passages().slice(0, COMPARED).to_pylist()
            template = self.options.template
            texts = [format_passage(template, title=r["title"], text=r["text"]) for r in rows]
            vectors = np.asarray(self.matrix[: len(texts)], np.float32)
            require_made_by(self.encoder, texts, vectors)
        return source

    def _index(self, embedded: Sequence[EmbeddedPart], workspace: Workspace) -> tuple[Indexed, str]:
        options = self.options
        folder = SegmentFolder(workspace.fresh_segment())
        with self._stage("write"):
            passages = folder.write_passages(
                item.part.passages().take(item.good_rows()) for item in embedded
            )
            vectors = folder.write_vectors(
                vector_blocks(embedded),
                dim=self.dim,
                dtype=options.stored_dtype,
                scale=int8_scale(embedded) if options.stored_dtype == "i8" else None,
            )
            hashed = content_hash([(passages, vectors)])
        with self._stage("index"):
            indexed = index_vectors(
                folder, passages, vectors, options=options, encoder=self.encoder
            )
        if options.keep_vectors == "none":
            folder.drop_vectors()
        folder.finish()
        return indexed, hashed

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 3)


def common_dim(encoder: Encoder | None, matrix: NDArray[np.float32] | None) -> int:
    """Width of the vectors of both.

    Raises:
        ConfigError: They differ, or there is neither.
    """
    if matrix is None:
        return require_encoder(encoder).dim
    if encoder is not None and encoder.dim != matrix.shape[1]:
        raise ConfigError(
            f"the embeddings have {matrix.shape[1]} dimensions, the encoder {encoder.dim}: name "
            "the encoder that made them, or --encoder '' for queries by vector only"
        )
    return matrix.shape[1]


def _counted(rejects: Rejects) -> str:
    return ", ".join(f"{code} {count}" for code, count in rejects.counts.items()) or "nothing read"


def require_encoder(encoder: Encoder | None) -> Encoder:
    """The encoder, which there must be if no vectors are given."""
    if encoder is None:
        raise ConfigError("no encoder: pass --encoder, or --embeddings with ready vectors")
    return encoder
