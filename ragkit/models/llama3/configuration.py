"""The configuration of a Llama 3 model."""

from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from difflib import get_close_matches
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import LlamaConfig

from ragkit.errors import ConfigError
from ragkit.nn.rope_parameters import check_rope_parameters

_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
)


class Llama3Config(LlamaConfig):
    """Sizes of a Llama 3 model; fields and defaults are those of transformers' `LlamaConfig`.

    Keys that are no field are kept as attributes, since configurations of checkpoints have many;
    `from_fields` refuses them.

    Raises:
        ConfigError: A field, which the message names, has a wrong type or makes no model.
    """

    model_type = "ragkit_llama3"

    def __init__(self, **fields: Any) -> None:  # noqa: ANN401 - the fields are LlamaConfig's
        try:
            super().__init__(**fields)
        except StrictDataclassError as error:
            raise ConfigError(f"{error.__cause__}: give it a value of that kind") from error

    def __post_init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - legacy keys of checkpoints
        """Fill in what follows from other fields, and check them all."""
        self._check_sizes()
        self._check_heads()
        rope_parameters = dict(kwargs.pop("rope_scaling", None) or self.rope_parameters or {})
        check_rope_parameters(rope_parameters)
        self.rope_parameters = rope_parameters
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]
        check_rope_parameters(self.rope_parameters)  # again: rope_theta may be one of the kwargs

    @classmethod
    def from_llama(cls, config: LlamaConfig) -> "Llama3Config":
        """The same model as `config` describes to transformers' Llama classes."""
        return cls(**_fields_of(config))

    def to_llama(self) -> LlamaConfig:
        """The same model, described to transformers' Llama classes."""
        return LlamaConfig(**_fields_of(self))

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "Llama3Config":
        """The configuration with these fields, for a recipe: a misspelt one is an error.

        Raises:
            ConfigError: A key is no field, or a value makes no model.
        """
        known = {field.name for field in dataclass_fields(cls)} | {"rope_theta"}
        for key in fields:
            if key not in known:
                close = get_close_matches(key, known, n=3)
                mend = f"did you mean {' or '.join(close)}?" if close else "leave it out"
                raise ConfigError(f"Llama3Config has no field {key!r}: {mend}")
        return cls(**fields)

    def _check_sizes(self) -> None:
        for name in _SIZES:
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ConfigError(f"{name} must be at least 1, got {size}: give a positive number")
        if self.rms_norm_eps <= 0:
            raise ConfigError(
                f"rms_norm_eps must be positive, got {self.rms_norm_eps}: 1e-5 is Llama 3's"
            )
        if not 0 <= (self.attention_dropout or 0) < 1:
            raise ConfigError(
                f"attention_dropout must lie in [0, 1), got {self.attention_dropout}: Llama 3 has 0"
            )
        if self.hidden_act != "silu":
            raise ConfigError(
                f"hidden_act must be 'silu', got {self.hidden_act!r}: leave it out, or let "
                "transformers' own class load the checkpoint"
            )
        if self.pad_token_id is not None and self.pad_token_id >= self.vocab_size:
            raise ConfigError(
                f"pad_token_id must be below vocab_size {self.vocab_size}, got "
                f"{self.pad_token_id}: raise vocab_size or choose another token"
            )

    def _check_heads(self) -> None:
        heads = self.num_attention_heads
        if self.hidden_size % heads:
            raise ConfigError(
                f"num_attention_heads must divide hidden_size, got {heads} and "
                f"{self.hidden_size}: choose a divisor"
            )
        key_value_heads = self.num_key_value_heads or heads
        if heads % key_value_heads:
            raise ConfigError(
                f"num_key_value_heads must divide num_attention_heads, got {key_value_heads} and "
                f"{heads}: choose a divisor"
            )
        head_dim = self.head_dim or self.hidden_size // heads
        if head_dim % 2:
            raise ConfigError(
                f"head_dim must be even, since rotary positions turn pairs, got {head_dim}: "
                "change hidden_size or num_attention_heads, or give head_dim"
            )


def _fields_of(config: LlamaConfig) -> dict[str, Any]:
    """What `config` says of the model, whichever of the two types it has."""
    return {key: value for key, value in config.to_dict().items() if key != "model_type"}
