"""Checks `rope_parameters` of a configuration before anything is computed from them."""

from collections.abc import Mapping, Set
from difflib import get_close_matches
from typing import Any

from ragkit.errors import ConfigError

_ANY_TYPE = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
_NEEDED = {
    "default": set(),
    "linear": {"factor"},
    "yarn": {"factor"},
    "llama3": {
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    },
}
_OPTIONAL = {
    "yarn": {
        "original_max_position_embeddings",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "truncate",
    }
}
_AT_LEAST = {
    "rope_theta": 1.0,
    "factor": 1.0,
    "low_freq_factor": 1e-6,  # wavelengths are divided by it
    "high_freq_factor": 1e-6,
    "original_max_position_embeddings": 1,
}


def check_rope_parameters(parameters: Mapping[str, Any]) -> None:
    """Accept `rope_parameters` of Hugging Face that `ragkit.nn.rope` computes.

    Raises:
        ConfigError: The type or a key is unknown, a key is missing, or a value makes no sense.
    """
    rope_type = parameters.get("rope_type", parameters.get("type", "default"))
    if not isinstance(rope_type, str) or rope_type not in _NEEDED:
        raise ConfigError(
            f"rope_parameters: rope_type must be one of {', '.join(_NEEDED)}, got {rope_type!r}: "
            "choose one of them, or let transformers' own class load the checkpoint"
        )
    _check_keys(rope_type, parameters.keys())
    _check_values(parameters)


def _check_keys(rope_type: str, keys: Set[str]) -> None:
    if missing := sorted(_NEEDED[rope_type] - keys):
        raise ConfigError(
            f"rope_parameters: rope_type {rope_type} needs {', '.join(missing)}: add them"
        )
    known = _NEEDED[rope_type] | _OPTIONAL.get(rope_type, set()) | _ANY_TYPE
    for key in sorted(keys - known):
        mend = get_close_matches(key, known, n=1) or sorted(known)
        raise ConfigError(
            f"rope_parameters: rope_type {rope_type} takes no {key!r}: "
            f"leave it out, or write {' or '.join(mend)}"
        )


def _check_values(parameters: Mapping[str, Any]) -> None:
    for key, low in _AT_LEAST.items():
        value = parameters.get(key, low)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= low:
            raise ConfigError(
                f"rope_parameters: {key} must be a number of at least {low:g}, got {value!r}: "
                "correct it"
            )
    if (share := parameters.get("partial_rotary_factor", 1.0)) != 1.0:
        raise ConfigError(
            f"rope_parameters: partial_rotary_factor must be 1, got {share!r}: leave it out, "
            "since the whole head is rotated"
        )
    low, high = parameters.get("low_freq_factor", 1.0), parameters.get("high_freq_factor", 4.0)
    if not low < high:
        raise ConfigError(
            f"rope_parameters: high_freq_factor must exceed low_freq_factor, got {high!r} and "
            f"{low!r}: correct them"
        )
