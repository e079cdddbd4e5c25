"""What a model costs, from its configuration alone: its weights are never made nor read."""

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from ragkit.errors import ConfigError
from ragkit.hub import quiet_transformers, resolve
from ragkit.models.checkpoint import read_config, translated_errors
from ragkit.models.flops import DecoderDimensions, flops_per_token, read_dimensions
from ragkit.models.gguf import read_gguf_config
from ragkit.models.llama3.presets import PRESETS, preset
from ragkit.models.loading import choose_class

SCHEMA = "ragkit.models_describe/1"
DEFAULT_CONTEXT_LENGTH = 8192
"""Tokens over which FLOPs are averaged, where the model reads as many."""

KV_BYTES = 2
"""Bytes of a number in the cache: bf16."""

OPTIMIZER_BYTES = 12
"""Bytes per parameter that AdamW keeps: an fp32 master copy and two fp32 moments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """The size of a model and what a token costs.

    Args:
        non_embedding_parameters: Without the embedding table and an untied head.
        flops_per_token: Of the forward pass, on average over `context_length` tokens.
        kv_bytes_per_token: Keys and values of all layers in bf16.
        optimizer_bytes: What AdamW keeps beside weights and gradients, 12 bytes a parameter.
    """

    name: str
    model_type: str
    parameters: int
    non_embedding_parameters: int
    flops_per_token: int
    kv_bytes_per_token: int
    optimizer_bytes: int
    context_length: int
    max_position_embeddings: int
    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool
    rope_parameters: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The description as JSON values, `schema` first."""
        return {"schema": SCHEMA, **asdict(self)}


def describe(
    name: str, *, context_length: int | None = None, revision: str | None = None
) -> ModelDescription:
    """The description of a preset, or of the dense decoder that `load_model` would open.

    Args:
        name: A preset, a folder, a GGUF file, a hub id or `package:NAME`. A preset wins.
        context_length: Tokens over which FLOPs are averaged; `None` is 8192, or fewer if the
            model reads fewer.

    Raises:
        ConfigError: There is no such preset, the context is longer than the model's, or its kind
            is no dense decoder.
        CheckpointError: The checkpoint is incomplete, damaged or no causal LM.
        HubError: The hub does not have the model or cannot be reached.
    """
    config = preset(name) if name in PRESETS else _checkpoint_config(name, revision=revision)
    sizes = read_dimensions(config)
    context_length = _choose_context(context_length, config)
    model = _on_meta(config, name)
    parameters = _count(model.parameters())
    return ModelDescription(
        name=name,
        model_type=config.model_type,
        parameters=parameters,
        non_embedding_parameters=parameters - _count(_embeddings(model)),
        flops_per_token=round(flops_per_token(config, context_length).total),
        kv_bytes_per_token=_kv_bytes(sizes),
        optimizer_bytes=OPTIMIZER_BYTES * parameters,
        context_length=context_length,
        max_position_embeddings=config.max_position_embeddings,
        num_hidden_layers=len(sizes.windows),
        hidden_size=sizes.hidden_size,
        intermediate_size=sizes.intermediate_size,
        num_attention_heads=sizes.num_attention_heads,
        num_key_value_heads=sizes.num_key_value_heads,
        head_dim=sizes.head_dim,
        vocab_size=sizes.vocab_size,
        tie_word_embeddings=config.tie_word_embeddings,
        rope_parameters=dict(getattr(config, "rope_parameters", None) or {}),
    )


def _checkpoint_config(spec: str, *, revision: str | None) -> PreTrainedConfig:
    close = difflib.get_close_matches(spec, PRESETS)
    # A hub id without an owner looks the same; presets are what such a name nearly always means.
    if close and not Path(spec).exists():
        raise ConfigError(
            f"no preset and no model {spec!r}: did you mean {' or '.join(close)}? "
            "`ragkit models list` shows all presets"
        )
    found = resolve(spec, revision=revision)
    return read_gguf_config(found) if found.is_file() else read_config(found)


def _choose_context(context_length: int | None, config: PreTrainedConfig) -> int:
    longest: int = config.max_position_embeddings
    if context_length is None:
        return min(DEFAULT_CONTEXT_LENGTH, longest)
    if not 1 <= context_length <= longest:
        raise ConfigError(
            f"context_length must lie in 1..{longest} (max_position_embeddings of the model), "
            f"got {context_length}: lower it, or choose a model with a longer context"
        )
    return context_length


def _on_meta(config: PreTrainedConfig, name: str) -> PreTrainedModel:
    """The model without memory for its weights."""
    kind, config = choose_class(config, implementation="ragkit")
    make = getattr(kind, "from_config", kind)
    with translated_errors(Path(name)), quiet_transformers(), torch.device("meta"):
        return make(config)


def _count(parameters: Iterable[Tensor]) -> int:
    return sum({id(each): each.numel() for each in parameters}.values())


def _embeddings(model: PreTrainedModel) -> list[Tensor]:
    """Embedding tables, and the head: the same parameter where it is tied."""
    tables = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
    head = model.get_output_embeddings()
    return tables if head is None else [*tables, head.weight]


def _kv_bytes(sizes: DecoderDimensions) -> int:
    return 2 * len(sizes.windows) * sizes.num_key_value_heads * sizes.head_dim * KV_BYTES
