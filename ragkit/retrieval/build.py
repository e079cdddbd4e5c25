"""From files to a published index: read, embed, index, check, publish."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from ragkit.config import fit_config
from ragkit.data import Rejects, read_documents, sources
from ragkit.encoders import load_encoder
from ragkit.encoders.base import Encoder
from ragkit.errors import ConfigError, DataError
from ragkit.index.layout import MARKER_TEXT, Layout
from ragkit.index.lock import writer_lock
from ragkit.index.manifest import Manifest, read_current
from ragkit.index.segment import SegmentFolder, content_hash
from ragkit.index.storage import durable_file, make_folder, require_free
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
    read_matrix,
    report_bad,
    vector_blocks,
)
from ragkit.retrieval.options import BuildOptions
from ragkit.retrieval.prepare import Part, Uniqueness, prepare_parts
from ragkit.retrieval.publication import Built, publish_build, settle
from ragkit.retrieval.quality import read_query_texts
from ragkit.retrieval.report import BuildReport
from ragkit.retrieval.settings import (
    content_settings,
    index_request,
    require_same_index,
    require_same_input,
)

# Ready vectors that are compared with those of the encoder that is named for them.
COMPARED = 4


def build_index(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    encoder: Encoder | str | None = None,
    **options: Any,  # noqa: ANN401 - the fields of BuildOptions
) -> BuildReport:
    """Build an index at `out` from files, folders or datasets, and publish it.

    A killed build goes on where it stopped when the same call is made again.

    Args:
        inputs: Paths, globs, folders, `hf:NAME`, or `-` for JSONL on stdin.
        encoder: A model by path, hub id, `package:NAME` or `hash:DIM`, or an object that embeds.
        options: Fields of `BuildOptions`; fields of `ReadOptions` go in `read`.

    Raises:
        ConfigError: An option makes no sense, or `out` holds something else.
        DataError: The input was rejected.
        IndexStateError: `out` holds another index, or an unfinished build with other settings.
        IndexLockedError: Another process is building there.
        RecallError: No parameters of the index type reach the recall; nothing was published.
        StorageError: The disk is full or failing; the same call goes on later.
    """
    if isinstance(encoder, str):
        options["encoder"], encoder = encoder, None
    named = [str(one) for one in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    chosen = fit_config(BuildOptions, options, origin="build_index")
    return run_build(named, Path(out), chosen, encoder=encoder)


def run_build(
    inputs: Sequence[str], out: Path, options: BuildOptions, *, encoder: Encoder | None = None
) -> BuildReport:
    """`build_index`, with the options in one object."""
    layout = Layout(out)
    layout.require_ours()
    existed = layout.root.exists()
    _mark(layout)
    with writer_lock(layout.lock, break_lock=options.break_lock):
        try:
            return _Build(layout, list(inputs), options).run(encoder)
        finally:
            _tidy(layout, existed=existed)


def _mark(layout: Layout) -> None:
    """Make the folder, and say whose it is before anything else is written to it."""
    make_folder(layout.root)
    if not layout.marker.is_file():
        with durable_file(layout.marker) as file:
            file.write(MARKER_TEXT.encode())


def load_build_encoder(options: BuildOptions) -> Encoder | None:
    """The encoder that the options name; `None` if vectors are given and none is named."""
    if not options.encoder:
        if options.embeddings is None:
            raise ConfigError("no encoder: pass --encoder, or --embeddings with ready vectors")
        return None
    return load_encoder(
        options.encoder,
        device=options.device,
        dtype="fp32" if options.deterministic else options.dtype,
        batch_tokens=options.batch_tokens,
        max_length=options.max_length,
        query_prefix=options.query_prefix,
        passage_prefix=options.passage_prefix,
        dim=options.dim,
        revision=options.revision,
        trust_remote_code=options.trust_remote_code,
    )


class _Build:
    """One run; the methods are its stages, in order."""

    def __init__(self, layout: Layout, inputs: list[str], options: BuildOptions) -> None:
        self.layout, self.inputs, self.options = layout, inputs, options
        self.seconds: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def run(self, encoder: Encoder | None) -> BuildReport:
        options, layout = self.options, self.layout
        current = self._current()
        with self._stage("load"):
            matrix = None if options.embeddings is None else read_matrix(options.embeddings)
            encoder = encoder or load_build_encoder(options)
        dim = _dim(encoder, matrix)
        require_factory(options, dim=dim)
        if options.eval_queries is not None:
            read_query_texts(options.eval_queries)
        settings = content_settings(options, encoder, dim=dim)
        request = index_request(options)
        if current is not None:
            require_same_index(layout.root, current, settings, request)
        if options.restart:
            clear(layout)
        settle(layout)
        workspace = Workspace.open(layout, settings, resume=options.resume)
        with Rejects(layout.rejects / f"{workspace.id}.jsonl") as rejects:
            with self._stage("read"):
                parts = self._prepare(encoder, workspace, rejects, dim=dim)
                read = list(sources(self.inputs, options=options.read))
            input_hash = xxhash.xxh3_128_hexdigest("".join(part.key for part in parts).encode())
            if current is not None:
                require_same_input(layout.root, current, input_hash)
                clear(layout)
                rejects.discard()
                return BuildReport(layout.root, current, None, unchanged=True)
            with self._stage("embed"):
                source = _source(encoder, matrix, parts, template=options.template)
                embedded = self._embed(parts, source, workspace, rejects, dim=dim)
        indexed, hashed = self._index(embedded, workspace, encoder, dim=dim)
        built = Built(
            indexed=indexed,
            dim=dim,
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
        manifest = publish_build(layout, workspace, built, encoder=encoder)
        clear(layout)
        return BuildReport(layout.root, manifest, rejects.path if rejects.counts else None)

    def _current(self) -> Manifest | None:
        """The generation that this build may turn out to equal."""
        if self.options.overwrite or not self.layout.is_index():
            return None
        return read_current(self.layout)

    def _prepare(
        self, encoder: Encoder | None, workspace: Workspace, rejects: Rejects, *, dim: int
    ) -> list[Part]:
        options = self.options
        unique = Uniqueness(options, rejects, last=self._last_ordinals())
        documents = read_documents(self.inputs, options=options.read, rejects=rejects)
        parts, num_documents = prepare_parts(
            unique.keep(documents),
            cutter=make_cutter(encoder, options),
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
        require_kept_vectors(options, num_rows=rows, dim=dim)
        per_value = sum(VALUE_BYTES[dtype] for dtype in (options.part_dtype, options.stored_dtype))
        text_bytes = sum(part.path.stat().st_size for part in parts)
        require_free(self.layout.root, rows * dim * per_value + text_bytes)
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
        self,
        parts: Sequence[Part],
        source: VectorSource,
        workspace: Workspace,
        rejects: Rejects,
        *,
        dim: int,
    ) -> list[EmbeddedPart]:
        options = self.options
        embedded = embed_parts(
            parts,
            source=source,
            workspace=workspace,
            dim=dim,
            dtype=options.part_dtype,
            metric=options.chosen_metric,
        )
        passages = self.counts["passages"] - report_bad(embedded, rejects)
        rejects.check(self.counts["passages"], options.max_rejects)
        if not passages:
            raise DataError("no passage has a usable vector: every one holds NaN or has length 0")
        self.counts |= {"passages": passages, **rejects.counts}
        return embedded

    def _index(
        self,
        embedded: Sequence[EmbeddedPart],
        workspace: Workspace,
        encoder: Encoder | None,
        *,
        dim: int,
    ) -> tuple[Indexed, str]:
        options = self.options
        folder = SegmentFolder(workspace.fresh_segment())
        with self._stage("write"):
            passages = folder.write_passages(
                item.part.passages().take(item.good_rows()) for item in embedded
            )
            vectors = folder.write_vectors(
                vector_blocks(embedded),
                dim=dim,
                dtype=options.stored_dtype,
                scale=int8_scale(embedded) if options.stored_dtype == "i8" else None,
            )
            hashed = content_hash([(passages, vectors)])
        with self._stage("index"):
            indexed = index_vectors(folder, passages, vectors, options=options, encoder=encoder)
        if options.keep_vectors == "none":
            folder.drop_vectors()
        folder.finish()
        return indexed, hashed

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 3)


def _dim(encoder: Encoder | None, matrix: NDArray[np.float32] | None) -> int:
    if matrix is None:
        return 0 if encoder is None else encoder.dim
    if encoder is not None and encoder.dim != matrix.shape[1]:
        raise ConfigError(
            f"the embeddings have {matrix.shape[1]} dimensions, the encoder {encoder.dim}: name "
            "the encoder that made them, or --encoder '' for queries by vector only"
        )
    return matrix.shape[1]


def _source(
    encoder: Encoder | None,
    matrix: NDArray[np.float32] | None,
    parts: Sequence[Part],
    *,
    template: str,
) -> VectorSource:
    if matrix is not None:
        source = MatrixSource(matrix, num_passages=sum(part.rows for part in parts))
        if encoder is not None:
            rows = parts[0].passages().slice(0, COMPARED).to_pylist()
            texts = [format_passage(template, title=r["title"], text=r["text"]) for r in rows]
            require_made_by(encoder, texts, np.asarray(matrix[: len(texts)], np.float32))
        return source
    if encoder is None:
        raise ConfigError("no encoder: pass --encoder, or --embeddings with ready vectors")
    return EncoderSource(encoder)


def _counted(rejects: Rejects) -> str:
    return ", ".join(f"{code} {count}" for code, count in rejects.counts.items()) or "nothing read"


def _tidy(layout: Layout, *, existed: bool) -> None:
    """Leave nothing behind of a build that came to nothing."""
    if any(layout.builds.glob("*/journal.jsonl")):
        return
    clear(layout)
    if not existed and not layout.is_index() and not any(layout.rejects.glob("*")):
        shutil.rmtree(layout.root, ignore_errors=True)
