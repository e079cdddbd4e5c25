"""Whether a checkpoint holds exactly the tensors that its configuration asks for."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from ragkit.errors import CheckpointError

SHOWN = 3
_LAYER = re.compile(r"layers\.(\d+)\.")
_ATTENTION = "num_attention_heads or head_dim"
_KEY_VALUE = "num_key_value_heads or head_dim"
_FIELDS = {
    "embed_tokens": ("vocab_size", "hidden_size"),
    "lm_head": ("vocab_size", "hidden_size"),
    "q_proj": (_ATTENTION, "hidden_size"),
    "k_proj": (_KEY_VALUE, "hidden_size"),
    "v_proj": (_KEY_VALUE, "hidden_size"),
    "o_proj": ("hidden_size", _ATTENTION),
    "gate_proj": ("intermediate_size", "hidden_size"),
    "up_proj": ("intermediate_size", "hidden_size"),
    "down_proj": ("hidden_size", "intermediate_size"),
}
"""The field of config.json that decides about each dimension of a matrix."""


def require_exact(model: PreTrainedModel, report: Mapping[str, Any], folder: Path) -> None:
    """Refuse a model of which a tensor was made up, left out or has another shape.

    Args:
        report: What `from_pretrained(..., output_loading_info=True)` gives beside the model.

    Raises:
        CheckpointError: Checkpoint and configuration differ; the message names tensors and field.
    """
    if report["mismatched_keys"]:
        raise CheckpointError(f"{folder}: {_describe_mismatch(sorted(report['mismatched_keys']))}")
    for kind, names in (("lacks", report["missing_keys"]), ("adds", report["unexpected_keys"])):
        if names:
            mend = _mend(names, model.config, lacking=kind == "lacks")
            raise CheckpointError(
                f"{folder} {kind} {len(names)} tensors compared with its config.json, such as "
                f"{', '.join(sorted(names)[:SHOWN])}: {mend}"
            )
    _require_tie(model, folder)


def _describe_mismatch(mismatches: list[tuple[str, Any, Any]]) -> str:
    name, found, expected = mismatches[0]
    found, expected = tuple(found), tuple(expected)
    more = f" ({len(mismatches)} tensors differ)" if len(mismatches) > 1 else ""
    return (
        f"{name} has shape {list(found)}, config.json asks for {list(expected)}{more}: "
        f"mend {_field(name, found, expected)} of config.json or fetch the model again"
    )


def _field(name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> str:
    module = name.split(".")[-2] if "." in name else name
    fields = _FIELDS.get(module, ("hidden_size",) if module.endswith("norm") else ())
    if len(fields) != len(found) or len(found) != len(expected):
        return "the sizes"
    differing = zip(fields, found, expected, strict=True)
    return next(field for field, one, other in differing if one != other)


def _mend(names: Collection[str], config: PreTrainedConfig, *, lacking: bool) -> str:
    layers = [int(found[1]) for found in map(_LAYER.search, names) if found]
    if len(layers) == len(names) and _are_last_layers(layers, config, lacking=lacking):
        num_layers = min(layers) if lacking else max(layers) + 1
        return f"set num_hidden_layers to {num_layers}, or fetch the model again"
    if lacking and set(names) == {"lm_head.weight"}:
        return "set tie_word_embeddings if the head is the embedding, or fetch the model again"
    return "fetch the model again, or mend config.json, which may belong to another model"


def _are_last_layers(layers: list[int], config: PreTrainedConfig, *, lacking: bool) -> bool:
    """Whether the layers with these tensors are whole ones at the end."""
    num_layers = getattr(config, "num_hidden_layers", 0)
    if not lacking:
        return min(layers) == num_layers
    counts = {layer: layers.count(layer) for layer in layers}
    return min(layers) > 0 and max(layers) == num_layers - 1 and len(set(counts.values())) == 1


def _require_tie(model: PreTrainedModel, folder: Path) -> None:
    """Transformers unties without a word what a checkpoint holds twice with different values."""
    head = model.get_output_embeddings()
    embedding = model.get_input_embeddings()
    tied = getattr(model.config, "tie_word_embeddings", False)
    if tied and head is not None and head.weight is not embedding.weight:
        raise CheckpointError(
            f"{folder} holds a head that differs from the embedding, but its config.json says "
            "tie_word_embeddings: set it to false, or fetch the model again"
        )
