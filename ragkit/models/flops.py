"""FLOPs per token of a dense decoder, from its configuration, as `ragkit.nn.flops` counts them."""

from dataclasses import dataclass

from transformers import PreTrainedConfig

from ragkit.errors import ConfigError
from ragkit.nn.flops import (
    TokenFlops,
    attention_flops,
    causal_attended,
    linear_flops,
    mlp_flops,
    projection_flops,
)

_MLP_MATRICES = {
    **dict.fromkeys(("llama", "ragkit_llama3", "mistral", "qwen2", "qwen3", "gemma", "gemma2"), 3),
    **dict.fromkeys(("granite", "olmo", "olmo2", "phi3", "smollm3"), 3),
    **dict.fromkeys(("gpt2", "gpt_neox", "phi", "starcoder2"), 2),
}
"""Matrices of the MLP by model type: three where it is gated. No field of a config says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderDimensions:
    """The sizes of a dense decoder that its matrix products depend on.

    Args:
        windows: Most keys that a query of each layer reads, itself included; `None` for all.
    """

    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    mlp_matrices: int
    vocab_size: int
    windows: tuple[int | None, ...]


def flops_per_token(
    config: PreTrainedConfig, seq_length: int, *, mean_attended: float | None = None
) -> TokenFlops:
    """Forward FLOPs of one token, on average over a sequence of `seq_length`.

    Args:
        mean_attended: Keys that a query reads, on average, in every layer: `causal_attended` of
            the documents where they are masked from one another. `None` takes the causal mask
            over the whole sequence, with the window of each layer.

    Raises:
        ConfigError: The model is no dense decoder that can be read, or `seq_length` is not
            positive.
    """
    if seq_length < 1:
        raise ConfigError(f"seq_length must be at least 1, got {seq_length}")
    sizes = read_dimensions(config)
    num_layers, heads, head_dim = len(sizes.windows), sizes.num_attention_heads, sizes.head_dim
    if mean_attended is None:
        read = [causal_attended([seq_length], window=window) for window in sizes.windows]
    else:
        read = [mean_attended] * num_layers
    projections = projection_flops(
        sizes.hidden_size,
        num_attention_heads=heads,
        num_key_value_heads=sizes.num_key_value_heads,
        head_dim=head_dim,
    )
    mlp = mlp_flops(sizes.hidden_size, sizes.intermediate_size, num_matrices=sizes.mlp_matrices)
    return TokenFlops(
        attention_projections=num_layers * projections,
        scores_and_values=sum(
            attention_flops(keys, num_attention_heads=heads, head_dim=head_dim) for keys in read
        ),
        mlp=num_layers * mlp,
        head=linear_flops(sizes.hidden_size, sizes.vocab_size),
    )


def training_flops_per_token(
    config: PreTrainedConfig, seq_length: int, *, mean_attended: float | None = None
) -> float:
    """Forward and backward FLOPs of one token; the arguments are those of `flops_per_token`.

    Raises:
        ConfigError: As for `flops_per_token`.
    """
    return flops_per_token(config, seq_length, mean_attended=mean_attended).training.total


def read_dimensions(config: PreTrainedConfig) -> DecoderDimensions:
    """The sizes that a config of Hugging Face states.

    Raises:
        ConfigError: The model type is not known to be a dense decoder, or a size is missing.
    """
    kind = config.model_type
    if kind not in _MLP_MATRICES:
        raise ConfigError(
            f"cannot count the FLOPs of model_type {kind!r}: known are {', '.join(_MLP_MATRICES)}"
        )
    hidden_size, heads = _size(config, "hidden_size"), _size(config, "num_attention_heads")
    return DecoderDimensions(
        hidden_size=hidden_size,
        num_attention_heads=heads,
        num_key_value_heads=_size(config, "num_key_value_heads", default=heads),
        head_dim=_size(config, "head_dim", default=hidden_size // heads),
        intermediate_size=_intermediate_size(config, hidden_size),
        mlp_matrices=_MLP_MATRICES[kind],
        vocab_size=_size(config, "vocab_size"),
        windows=_windows(config, _size(config, "num_hidden_layers")),
    )


def _size(config: PreTrainedConfig, name: str, *, default: int | None = None) -> int:
    found = getattr(config, name, None) or default
    if not isinstance(found, int):
        raise ConfigError(
            f"{config.model_type} needs {name}, found {found!r}: set it in its config"
        )
    return found


def _intermediate_size(config: PreTrainedConfig, hidden_size: int) -> int:
    if config.model_type != "gpt2":
        return _size(config, "intermediate_size")
    # Its own name for it, which most checkpoints leave empty.
    return _size(config, "n_inner", default=4 * hidden_size)


def _windows(config: PreTrainedConfig, num_layers: int) -> tuple[int | None, ...]:
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * num_layers
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)
