"""Any causal language model, and its tokenizer, from a path, a hub id, GGUF or a package."""

from pathlib import Path
from typing import Any, Literal, get_args

import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ragkit.errors import ConfigError
from ragkit.hub import quiet_transformers, resolve
from ragkit.models.checkpoint import read_config, require_weights, translated_errors
from ragkit.models.gguf import convert_gguf
from ragkit.models.llama3 import Llama3Config, Llama3ForCausalLM
from ragkit.models.llama3.presets import PRESETS
from ragkit.models.tensors import require_exact
from ragkit.models.tokenizer import choose_pad_token, load_tokenizer, require_vocabulary

Implementation = Literal["ragkit", "transformers"]

_DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def load_model(
    spec: str | Path,
    *,
    implementation: Implementation = "ragkit",
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    revision: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model ready for inference, and its tokenizer.

    Args:
        spec: A folder, a GGUF file, a hub id or `package:NAME`.
        implementation: For Llama checkpoints, whose class: `Llama3ForCausalLM` or transformers'
            `LlamaForCausalLM`. All others are transformers' in either case.
        dtype: `fp32`, `bf16`, `fp16`, or `auto` for the checkpoint's own. `None` is `auto` on a
            GPU and `fp32` on a CPU, few of which multiply anything shorter.
        device: `None` is the current GPU where there is one, else the CPU.
        revision: Branch, tag or commit of a hub model.

    Raises:
        ConfigError: An argument or a value in config.json makes no sense.
        CheckpointError: The checkpoint is incomplete, damaged, pickled or no causal LM, or tensors
            are missing, extra or of another shape.
        HubError: The hub does not have the model or cannot be reached.
        MissingDependencyError: `package:NAME`, or what GGUF needs, is not installed.
        StorageError: The cache of converted GGUF files cannot be written.
    """
    if implementation not in get_args(Implementation):
        raise ConfigError(
            f"implementation must be one of {get_args(Implementation)}, got {implementation!r}"
        )
    place = choose_device(device)
    number_format = choose_dtype(dtype, place)
    folder = find_checkpoint(spec, revision=revision)
    config, tokenizer = read_config(folder), load_tokenizer(folder)
    model = load_weights(
        folder, config, implementation=implementation, dtype=number_format, device=place
    )
    require_vocabulary(tokenizer, model, folder)
    choose_pad_token(tokenizer)
    return model, tokenizer


def find_checkpoint(spec: str | Path, *, revision: str | None = None) -> Path:
    """The folder with the safetensors checkpoint that `spec` names; a GGUF file is converted.

    Raises:
        ConfigError, CheckpointError, HubError, MissingDependencyError, StorageError: As for
            `load_model`.
    """
    if spec in PRESETS and not Path(spec).exists():
        raise ConfigError(
            f"{spec!r} is a preset, which has sizes but no weights: give a checkpoint, or make an "
            "untrained model with Llama3ForCausalLM(preset(...))"
        )
    found = resolve(str(spec), revision=revision)
    return convert_gguf(found) if found.is_file() else found


def load_weights(
    folder: Path,
    config: PreTrainedConfig,
    *,
    implementation: Implementation,
    dtype: torch.dtype | Literal["auto"],
    device: torch.device,
) -> PreTrainedModel:
    """The model in `folder`, every tensor of which comes from there.

    Raises:
        CheckpointError: Weights are damaged, pickled, missing, extra or of another shape.
    """
    require_weights(folder)
    kind, config = choose_class(config, implementation=implementation)
    with translated_errors(folder), quiet_transformers():
        model, report = kind.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            # Straight to a GPU; on the CPU it would do nothing but mark the model.
            device_map=None if device.type == "cpu" else {"": device},
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # reported, then refused with the field's name
            output_loading_info=True,
        )
    require_exact(model, report, folder)
    return model


def choose_class(
    config: PreTrainedConfig, *, implementation: Implementation
) -> tuple[Any, PreTrainedConfig]:
    """The class that opens a checkpoint by name, and the configuration that it takes."""
    if not isinstance(config, LlamaConfig):
        return AutoModelForCausalLM, config
    is_ours = isinstance(config, Llama3Config)
    if implementation == "transformers":
        return LlamaForCausalLM, config.to_llama() if is_ours else config
    return Llama3ForCausalLM, config if is_ours else Llama3Config.from_llama(config)


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device that `load_model` takes for its argument.

    Raises:
        ConfigError: The name is malformed, or this machine lacks such a device.
    """
    if device is None or device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"no device {device!r}: give cpu, cuda, cuda:1 or auto") from error
    if place.type not in ("cpu", "cuda"):
        raise ConfigError(f"no model runs on device {device!r}: give cpu, cuda, cuda:1 or auto")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if place.type == "cuda" and (place.index or 0) >= found:
        raise ConfigError(f"device {device!r} is not there ({found} GPUs found): give auto or cpu")
    return place


def choose_dtype(
    dtype: str | torch.dtype | None, device: torch.device
) -> torch.dtype | Literal["auto"]:
    """The number format that `load_model` takes for its argument.

    Raises:
        ConfigError: There is no such format.
    """
    if dtype is None:
        return torch.float32 if device.type == "cpu" else "auto"
    if dtype == "auto":
        return "auto"
    if isinstance(dtype, torch.dtype) and dtype in _DTYPES.values():
        return dtype
    if dtype in _DTYPES:
        return _DTYPES[str(dtype)]
    raise ConfigError(f"dtype must be auto or one of {', '.join(_DTYPES)}, got {dtype!r}")
