"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685, section 4.1), by peft."""

from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from ragkit.config import config
from ragkit.errors import CheckpointError, ConfigError
from ragkit.hub import quiet_transformers
from ragkit.models.loading import load_model
from ragkit.storage import published_folder

BaseDtype = Literal["fp32", "bf16"]


@config
class LoraOptions:
    """Which adapters are trained; names and meanings are those of peft.

    Raises:
        ConfigError: A number is out of range.
    """

    r: int = 16
    """Rank of an update."""
    lora_alpha: int = 32
    """An update is scaled by `lora_alpha / r`."""
    lora_dropout: float = 0.0
    """Share of the inputs of an adapter that is dropped; each share costs time and memory."""
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of the layers that get an adapter, such as `q_proj`; by default all linear layers but
    the output projection."""
    base_dtype: BaseDtype = "fp32"
    """Number format of the frozen weights; adapters are in float32. `bf16` halves their memory, and
    with `training.bf16` saves two fifths of the time on CPUs with AMX; CPUs without bfloat16 units
    take three times as long as in `fp32`."""

    def __post_init__(self) -> None:
        if self.r < 1 or self.lora_alpha < 1:
            raise ConfigError(
                f"r and lora_alpha must be at least 1, got {self.r} and {self.lora_alpha}"
            )
        if not 0 <= self.lora_dropout < 1:
            raise ConfigError(f"lora_dropout must be in [0, 1), got {self.lora_dropout}")
        if not self.target_modules:
            raise ConfigError("target_modules must name a layer: leave it out for all-linear")


def add_adapters(model: PreTrainedModel, options: LoraOptions, *, seed: int) -> PeftModel:
    """`model` with adapters, the same for the same seed, which alone are trainable.

    Raises:
        ConfigError: The model has no layer of these names, or one that takes no adapter.
    """
    targets = options.target_modules
    lora: Any = LoraConfig(
        r=options.r,
        lora_alpha=options.lora_alpha,
        lora_dropout=options.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        # What peft finds out by itself, but tells as a warning.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        try:
            return get_peft_model(model, lora)
        except ValueError as error:
            raise ConfigError(
                f"lora.target_modules {targets!r} do not fit {type(model).__name__}: name linear "
                f"layers of it, or leave target_modules out ({error})"
            ) from error


def publish_merged(
    base: Path, adapter: Path, target: Path, *, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Add an adapter to the weights of its base, and write the sum as a model of its own.

    The base is read anew, in the number format of its checkpoint and on the CPU: what was trained
    may be sharded or in a shorter format. A base in bfloat16 rounds the sum.

    Args:
        base: Folder of the base's checkpoint.
        adapter: Folder of the adapter.
        target: Folder of the model, which appears whole or not at all.

    Raises:
        CheckpointError: The adapter is not one of this base.
        StorageError: The disk is full or failing.
    """
    model, _ = load_model(base, dtype="auto", device="cpu")
    with quiet_transformers():
        try:
            adapted = PeftModel.from_pretrained(model, str(adapter))
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"the adapter in {adapter} does not fit the model in {base}: tune it again from "
                f"this model ({error})"
            ) from error
        merged: Any = adapted.merge_and_unload()
        with published_folder(target) as unfinished:
            merged.save_pretrained(unfinished)
            tokenizer.save_pretrained(unfinished)
