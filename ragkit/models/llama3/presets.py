"""The sizes of the released models (Grattafiori et al. 2024, arXiv:2407.21783, table 3)."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from ragkit.errors import ConfigError
from ragkit.models.llama3.configuration import Llama3Config

_FAMILY = {
    "vocab_size": 128256,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
}
_1B = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "tie_word_embeddings": True,
}
_3B = {
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "tie_word_embeddings": True,
}
_8B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
_70B = {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
}
_405B = {
    "hidden_size": 16384,
    "intermediate_size": 53248,
    "num_hidden_layers": 126,
    "num_attention_heads": 128,
}
# 3.3 was released as a chat model only, whose turns may also end with these.
_CHAT = {"eos_token_id": [128001, 128008, 128009]}
_THETA = {"rope_theta": 500000.0}


def _context_8k(sizes: Mapping[str, Any]) -> Callable[[], Llama3Config]:
    return partial(
        Llama3Config,
        **_FAMILY,
        **sizes,
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", **_THETA},
    )


def _context_128k(sizes: Mapping[str, Any], *, factor: float) -> Callable[[], Llama3Config]:
    return partial(
        Llama3Config,
        **{**_FAMILY, **sizes},
        max_position_embeddings=131072,
        rope_parameters={
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
            **_THETA,
        },
    )


PRESETS: Mapping[str, Callable[[], Llama3Config]] = MappingProxyType(
    {
        "llama3-8b": _context_8k(_8B),
        "llama3-70b": _context_8k(_70B),
        "llama3.1-8b": _context_128k(_8B, factor=8.0),
        "llama3.1-70b": _context_128k(_70B, factor=8.0),
        "llama3.1-405b": _context_128k(_405B, factor=8.0),
        "llama3.2-1b": _context_128k(_1B, factor=32.0),
        "llama3.2-3b": _context_128k(_3B, factor=32.0),
        "llama3.3-70b": _context_128k({**_70B, **_CHAT}, factor=8.0),
    }
)
"""A new configuration of each released size, by name."""


def preset(name: str) -> Llama3Config:
    """A new configuration of the released size `name`.

    Raises:
        ConfigError: There is no such preset; the message lists them.
    """
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()
