"""Retriever fine-tuning: the query tower learns to find what helps the LM.

Lin et al. 2023, arXiv:2310.01352, section 2.3. The document tower is not trained, as training both
made things worse there (section 5.2), so that the index stays as it is.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from accelerate import PartialState
from safetensors.torch import load_model

from ragkit.config import adapter, config
from ragkit.encoders.assemble import hash_weights
from ragkit.encoders.query_tower import QueryTower, load_query_tower
from ragkit.encoders.save import save_encoder
from ragkit.errors import ConfigError, DataError
from ragkit.finetune.radit.lsr import Direction, require_useful_targets
from ragkit.finetune.radit.lsr_objective import LsrCollator, LsrObjective, require_gradient
from ragkit.finetune.radit.lsr_rows import LsrRows
from ragkit.finetune.radit.selection import MRR, RankingMeasure
from ragkit.index.reader import Index
from ragkit.rag.weights import default_temperature
from ragkit.retrieval.models import built_settings
from ragkit.retrieval.retriever import Retriever
from ragkit.training import HeldOut, TrainingOptions, TrainingReport, train
from ragkit.training.folder import RunFolder

logger = logging.getLogger(__name__)


@config
class RetrieverTuningOptions:
    """How a query tower is tuned on LM scores."""

    direction: Direction = "reverse"
    """`reverse` is KL(retriever || target), as the paper writes; `forward` is the other way."""
    retriever_temperature: float | None = None
    """Scores of the retriever are divided by it; `default_temperature` if not set. The weights of
    passages in an answer are to be made with the same."""
    training: TrainingOptions


@dataclass(frozen=True, kw_only=True)
class RetrieverTuningReport:
    """What came out of tuning a retriever.

    Args:
        training: Of the run; `selection` names the step whose weights were kept.
        encoder: Folder of the tuned query encoder, for `Retriever.open(..., query_encoder=...)`;
            `None` if the run was stopped before its end.
        retriever_temperature: What scores were divided by.
        entropy_share: Of the targets, as `entropy_share` has it.
        num_skipped: Rows with fewer than two passages, which teach nothing.
        before: What was measured on held-out rows with the untuned tower.
        after: What was measured with the tower that was kept.
    """

    training: TrainingReport
    encoder: Path | None
    retriever_temperature: float
    entropy_share: float
    num_skipped: int
    before: Mapping[str, float] | None
    after: Mapping[str, float] | None


def tune_retriever(  # noqa: PLR0913 - half of them have defaults
    index: Index,
    rows: LsrRows,
    *,
    options: RetrieverTuningOptions,
    out: Path,
    held_out: LsrRows | None = None,
    start: str | None = None,
    facts: Mapping[str, Any] = MappingProxyType({}),
    trust_remote_code: bool = False,
    overwrite: bool = False,
) -> RetrieverTuningReport:
    """Tune a query tower for an index, and leave it in `out/encoder`; the index is only read.

    A run that was killed goes on, as `train` says. With held-out rows the tower of the evaluation
    with the best MRR is kept, which may be the untuned one.

    Args:
        index: The one that the rows point into, of the same generation.
        held_out: Rows that are not trained on.
        start: The query encoder to begin with, of an earlier round, say; `None` copies the encoder
            of the index.
        facts: What else decides the run, as JSON values.
        trust_remote_code: Run the Python code that comes with the model.
        overwrite: Begin anew if `out` holds a run.

    Raises:
        ConfigError: Options, index and rows do not fit one another, or `out` holds another run.
        DataError: No rows are left that teach anything.
        IndexStateError: The index keeps no vectors, or is of another encoder.
        DivergedError: The loss is no longer finite.
        StorageError: The disk is full or failing.
    """
    taught = _usable(rows, index)
    measured = None if held_out is None else _usable(held_out, index)
    share = require_useful_targets(taught.log_targets)
    num_skipped = len(rows) - len(taught)
    logger.info("%d rows, %d skipped, entropy share %.3f", len(taught), num_skipped, share)
    tower = _load_tower(index, start, trust_remote_code=trust_remote_code)
    objective = _make_objective(index, options)
    collator = LsrCollator(tower.tokenize, index)
    size = min(len(taught), options.training.per_device_train_batch_size)
    require_gradient(objective, tower, collator([taught[place] for place in range(size)]))
    report = train(
        tower,
        taught,
        collator=collator,
        options=options.training,
        out=out,
        held_out=None if measured is None else _held_out(measured, objective, index),
        objective=objective,
        recipe=adapter(RetrieverTuningOptions).dump_python(options, mode="json"),
        facts={**facts, **_facts(index, taught, measured, tower)},
        overwrite=overwrite,
    )
    encoder = _publish(tower, report, index) if report.finished else None
    evaluations = RunFolder(out).evaluations.lines()
    return RetrieverTuningReport(
        training=report,
        encoder=encoder,
        retriever_temperature=objective.temperature,
        entropy_share=share,
        num_skipped=num_skipped,
        before=evaluations[0] if evaluations else None,
        after=report.selection,
    )


def _usable(rows: LsrRows, index: Index) -> LsrRows:
    """The rows that teach something about this index."""
    if rows.rows.max(initial=-1) >= len(index):
        raise ConfigError(
            f"a row points at passage {rows.rows.max()} of an index with {len(index)}: open the "
            "generation that was searched, or retrieve and score again"
        )
    found = rows.teaching()
    if not len(found):
        raise DataError(
            f"none of the {len(rows)} rows has two scored passages to choose from: retrieve more "
            "passages, or score them again"
        )
    return found


def _load_tower(index: Index, start: str | None, *, trust_remote_code: bool) -> QueryTower:
    """The tower to begin with, after it was checked that it fits the vectors of the index."""
    model = index.manifest.model
    name = start or model.get("name")
    if not name:
        raise ConfigError(
            f"{index.path} does not name the encoder of its vectors: give a query encoder to start "
            "with"
        )
    Retriever.open(
        index.path,
        generation=index.manifest.generation,
        query_encoder=start,
        device="cpu",
        trust_remote_code=trust_remote_code,
    ).close()
    settings = {} if start else built_settings(model, name)
    return load_query_tower(name, trust_remote_code=trust_remote_code, **settings)


def _make_objective(index: Index, options: RetrieverTuningOptions) -> LsrObjective:
    temperature = options.retriever_temperature
    if temperature is None:
        normalized = index.manifest.model.get("normalize", False)
        temperature = default_temperature(index.metric, normalized=normalized)
    return LsrObjective(
        metric=index.metric,
        temperature=temperature,
        direction=options.direction,
    )


def _held_out(rows: LsrRows, objective: LsrObjective, index: Index) -> HeldOut:
    return HeldOut(rows, measure=RankingMeasure(objective, index), best_by=MRR)


def _facts(
    index: Index, rows: LsrRows, held_out: LsrRows | None, tower: QueryTower
) -> dict[str, Any]:
    """What a run that goes on must find again."""
    return {
        "index": index.manifest.content_hash,
        "rows": rows.fingerprint(),
        "held_out": held_out and held_out.fingerprint(),
        "start": hash_weights(tower.parts.layout),
    }


def _publish(tower: QueryTower, report: TrainingReport, index: Index) -> Path:
    """Make an encoder of the weights that were kept; the first process does.

    Also of a run that was finished before: an encoder that is there may be of one before that.
    """
    out, state = Path(report.out) / "encoder", PartialState()
    if state.is_main_process:
        load_model(tower, report.model / "model.safetensors")
        save_encoder(tower, out, document_weights=index.manifest.model.get("weights_sha256"))
    state.wait_for_everyone()
    return out
