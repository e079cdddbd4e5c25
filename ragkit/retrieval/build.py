"""From files to a published index: read, embed, index, check, publish."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragkit.config import fit_config
from ragkit.encoders import load_encoder
from ragkit.encoders.base import Encoder
from ragkit.index.layout import MARKER_TEXT, Layout
from ragkit.index.lock import writer_lock
from ragkit.index.workspace import clear
from ragkit.retrieval.embed import read_matrix
from ragkit.retrieval.options import BuildOptions
from ragkit.retrieval.report import BuildReport
from ragkit.retrieval.stages import Build
from ragkit.storage import make_folder, storage_errors, sync_folder


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
            started = time.perf_counter()
            matrix = None if options.embeddings is None else read_matrix(options.embeddings)
            encoder = encoder or load_build_encoder(options)
            build = Build(layout, inputs, options, encoder=encoder, matrix=matrix)
            build.seconds["load"] = round(time.perf_counter() - started, 3)
            return build.run()
        finally:
            _tidy(layout, existed=existed)


def _mark(layout: Layout) -> None:
    """Make the folder, and say whose it is before anything else, the lock too, is written to it.

    Builds that start together may each write the mark, in place and alike: it counts however much
    of it is there.
    """
    make_folder(layout.root)
    with storage_errors(layout.marker):
        if not layout.marker.is_file() or not layout.marker.stat().st_size:
            layout.marker.write_text(MARKER_TEXT, "ascii")
            sync_folder(layout.root)


def load_build_encoder(options: BuildOptions) -> Encoder | None:
    """The encoder that the options name; `None` if they name none."""
    if not options.encoder:
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


def _tidy(layout: Layout, *, existed: bool) -> None:
    """Leave nothing behind of a build that came to nothing."""
    if any(layout.builds.glob("*/journal.jsonl")):
        return
    clear(layout)
    if not existed and not layout.is_index() and not any(layout.rejects.glob("*")):
        shutil.rmtree(layout.root, ignore_errors=True)
