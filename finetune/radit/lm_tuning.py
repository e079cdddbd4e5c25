"""LM fine-tuning on retrieved text (Lin et al. 2023, arXiv:2310.01352, section 2.3).

Each instance is a prompt with one passage, or none, and the answer; of the two only the answer is
learnt. Every answer token of an update counts the same, whatever instance it belongs to.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from accelerate import PartialState
from transformers import PreTrainedTokenizerBase

from ragkit.config import adapter, config, fit_config
from ragkit.data.collators import LabelledCollator
from ragkit.data.labelled import Instance, LabelledDataset
from ragkit.errors import ConfigError
from ragkit.finetune.radit.lora import LoraOptions, add_adapters, publish_merged
from ragkit.models.interface import max_context_length
from ragkit.models.loading import find_checkpoint, load_model
from ragkit.storage import hash_file
from ragkit.training import HeldOut, TrainingOptions, TrainingReport, train
from ragkit.training.model_checks import TrainedModel, require_separate_documents

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # Table 8; 64 rows an update, as for 7B: with 8 processes accumulate 1 batch instead of 8.
        "radit": {
            "max_steps": 500,
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 8,
            "learning_rate": 1e-5,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 200,
            "min_lr_rate": 0.01,
            "eval_steps": 100,
        },
        # Table 9, with the smallest of the batches there; they go up to 32 rows.
        "radit_64_shot": {
            "max_steps": 100,
            "per_device_train_batch_size": 8,
            "learning_rate": 1e-5,
            "lr_scheduler_type": "linear",
            "warmup_steps": 0,
            "min_lr_rate": 0.1,
            "eval_steps": 50,
        },
    }
)
"""Schedules of the paper, by name, as values of `TrainingOptions`."""

_LENGTHS = {"max_steps", "num_train_epochs", "num_tokens"}

logger = logging.getLogger(__name__)


@config
class LmTuningOptions:
    """How a language model is tuned on instances.

    Raises:
        ConfigError: A row has no room for a target, or the training options do not fit.
    """

    context_length: int = 2048
    """Most tokens of a row, and so of an instance."""
    packed: bool = True
    """Whether rows hold several instances, kept apart; else each holds one."""
    lora: LoraOptions | None = None
    """Adapters to train in place of all weights."""
    training: dict[str, Any]
    """The fields of `TrainingOptions`; `preset: radit` or `radit_64_shot` sets those that are left
    out."""

    def __post_init__(self) -> None:
        if self.context_length < 2:
            raise ConfigError(
                f"context_length must be 2 or more, as the first token of an instance is no "
                f"target, got {self.context_length}: give the model's context"
            )
        if make_training_options(self.training).num_tokens is not None:
            raise ConfigError(
                "training.num_tokens counts rows of equal length, which these are not: give "
                "max_steps or num_train_epochs"
            )


def tune_lm(
    model: str | Path,
    instances: Sequence[Instance],
    *,
    held_out: Sequence[Instance] = (),
    options: LmTuningOptions,
    out: Path,
    facts: Mapping[str, Any] = MappingProxyType({}),
    overwrite: bool = False,
) -> TrainingReport:
    """Tune a causal LM, and leave it in `out/model`, as a checkpoint that `load_model` opens.

    Adapters lie in `out/adapter` too. A run that was killed goes on, as `train` says.

    Args:
        model: What `load_model` takes.
        held_out: Instances that are not trained on; the loss of their answers is measured.
        facts: What else decides the run, as JSON values.
        overwrite: Begin anew if `out` holds a run.

    Raises:
        ConfigError: Options and model do not fit one another, or `out` holds another run.
        DataError: There are no instances, or one has no target or more than
            `context_length` tokens.
        CheckpointError, HubError, MissingDependencyError: The model cannot be loaded.
        DivergedError: The loss is no longer finite.
        StorageError: The disk is full or failing.
    """
    base = find_checkpoint(model)
    rows = _arrange(instances, options)
    measured = _arrange(held_out, options) if held_out else None
    known = {
        **facts,
        "instances": rows.content_hash,
        "held_out": measured.content_hash if measured else None,
        "weights": {path.name: hash_file(path) for path in sorted(base.glob("*.safetensors"))},
    }
    network, tokenizer = _load(base, options)
    report = train(
        network,
        rows,
        collator=LabelledCollator(
            pad_token_id=tokenizer.pad_token_id, mask_documents=options.packed
        ),
        options=make_training_options(options.training),
        out=out,
        held_out=HeldOut(measured) if measured else None,
        tokenizer=tokenizer,
        recipe=resolved(options),
        facts=known,
        overwrite=overwrite,
    )
    del network  # the base is about to be read once more
    if options.lora is not None and report.finished:
        _complete(base, report, tokenizer)
    return report


def make_training_options(fields: Mapping[str, Any]) -> TrainingOptions:
    """The options of a recipe's `training`, those of its preset filled in.

    Raises:
        ConfigError: There is no such preset, or a field does not fit.
    """
    given = dict(fields)
    name = given.pop("preset", None)
    if name is not None and name not in PRESETS:
        raise ConfigError(f"training.preset must be one of {', '.join(PRESETS)}, got {name!r}")
    preset = dict(PRESETS[name]) if name is not None else {}
    if _LENGTHS & given.keys():
        preset = {key: value for key, value in preset.items() if key not in _LENGTHS}
    return fit_config(TrainingOptions, {**preset, **given}, origin="training")


def resolved(options: LmTuningOptions) -> dict[str, Any]:
    """What decides a run, as JSON values, presets filled in."""
    tree: dict[str, Any] = adapter(LmTuningOptions).dump_python(options, mode="json")
    training = make_training_options(options.training)
    return {**tree, "training": adapter(TrainingOptions).dump_python(training, mode="json")}


def _arrange(instances: Sequence[Instance], options: LmTuningOptions) -> LabelledDataset:
    """Rows of the instances; says what packing made of them."""
    if options.packed:
        seed = make_training_options(options.training).seed
        rows = LabelledDataset.pack(instances, context_length=options.context_length, seed=seed)
    else:
        rows = LabelledDataset.separate(instances, context_length=options.context_length)
    logger.info("rows of instances: %s", rows.report)
    return rows


def _load(base: Path, options: LmTuningOptions) -> tuple[TrainedModel, PreTrainedTokenizerBase]:
    """The model as it is trained, and its tokenizer."""
    lora = options.lora
    model, tokenizer = load_model(base, dtype=lora.base_dtype if lora else "fp32", device="cpu")
    limit = max_context_length(model)
    if limit is not None and options.context_length > limit:
        raise ConfigError(
            f"context_length is {options.context_length}, but the model in {base} reads {limit} "
            "tokens: lower it"
        )
    if options.packed:
        require_separate_documents(model)
    if lora is None:
        return model, tokenizer
    seed = make_training_options(options.training).seed
    return add_adapters(model, lora, seed=seed), tokenizer


def _complete(base: Path, report: TrainingReport, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let the first process publish the merged model, unless it is there."""
    state = PartialState()
    if state.is_main_process and not report.model.is_dir():
        publish_merged(base, report.adapter, report.model, tokenizer=tokenizer)
    state.wait_for_everyone()
