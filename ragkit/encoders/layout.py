"""What a model folder says about itself: pooling, projection, normalisation, length, prompts.

Both layouts are read: sentence-transformers (`modules.json`) and a plain Hugging Face encoder.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ragkit.errors import CheckpointError, ConfigError

PoolingMode = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]

# The keys of older sentence-transformers, in the order in which several are concatenated.
_OLD_POOLING_KEYS: dict[str, PoolingMode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# One file of settings per family of backbones that sentence-transformers ever wrote.
BACKBONE_SETTINGS = "sentence_*_config.json"
# Beside a tuned query tower: which document tower it was tuned for.
TUNED_FOR = "query_tower.json"
DOCUMENT_WEIGHTS = "document_weights_sha256"
# Among the settings of a saved encoder: no prefix is to be guessed by its name.
ALL_PROMPTS = "lists_all_prompts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a model folder turns token states into a vector.

    Args:
        backbone: Folder of the transformer and its tokenizer.
        pooling: Modes whose results are concatenated.
        pooling_source: `model`, or `default` where the folder says nothing.
        projections: Folders of the dense layers that follow the pooling, in order.
        max_seq_length: `None` leaves it to the tokenizer and the position table.
        lowercase: Whether texts are lowered before the tokenizer sees them.
        lists_all_prompts: Whether a prompt that the folder does not name is none, whatever the
            folder is called.
        pools_prompt: Whether the tokens of a prefix take part in the pooling.
    """

    backbone: Path
    pooling: tuple[PoolingMode, ...] = ("mean",)
    pooling_source: Literal["model", "default"] = "default"
    projections: tuple[Path, ...] = ()
    normalize: bool = False
    max_seq_length: int | None = None
    lowercase: bool = False
    pools_prompt: bool = True
    prompts: Mapping[str, str] = field(default_factory=dict)
    lists_all_prompts: bool = False
    truncate_dim: int | None = None


def read_layout(folder: Path) -> Layout:
    """The layout of the model in `folder`.

    Raises:
        CheckpointError: The folder holds no model with safetensors weights.
        ConfigError: The model has a part that ragkit does not run.
    """
    modules_file = folder / "modules.json"
    if not modules_file.is_file():
        _require_backbone(folder)
        return Layout(backbone=folder)
    modules = _read_modules(modules_file)
    kinds = [kind for kind, _ in modules]
    middle = kinds[2:-1] if kinds[-1:] == ["Normalize"] else kinds[2:]
    if kinds[:2] != ["Transformer", "Pooling"] or set(middle) - {"Dense"}:
        raise ConfigError(
            f"{folder.name} is made of {' -> '.join(kinds)}, expected Transformer -> Pooling, then "
            "any Dense, then perhaps Normalize: choose another model, or wrap it in a function "
            "and give python:MODULE:NAME"
        )
    paths = [path for _, path in modules]
    _require_backbone(paths[0])
    settings = _first_object(sorted(paths[0].glob(BACKBONE_SETTINGS)))
    pooling = read_object(paths[1] / "config.json")
    model = _first_object(folder.glob("config_sentence_transformers.json"))
    return Layout(
        backbone=paths[0],
        pooling=_pooling_modes(pooling, folder.name),
        pooling_source="model",
        projections=tuple(paths[2 : 2 + len(middle)]),
        normalize=kinds[-1] == "Normalize",
        max_seq_length=settings.get("max_seq_length"),
        lowercase=settings.get("do_lower_case", False),
        pools_prompt=pooling.get("include_prompt", True),
        lists_all_prompts=model.get(ALL_PROMPTS, False),
        prompts={name: text for name, text in model.get("prompts", {}).items() if text},
        truncate_dim=model.get("truncate_dim"),
    )


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        CheckpointError: The file is absent or holds something else.
    """
    content = _read_json(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object: fetch the model again")
    return content


def _require_backbone(folder: Path) -> None:
    if not folder.is_dir() or not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} is not a model folder (no config.json): give the folder of a "
            "sentence-transformers or Hugging Face encoder"
        )
    if next(folder.glob("*.safetensors"), None) is None:
        raise CheckpointError(
            f"{folder} holds no *.safetensors, and pickled weights are never read: convert the "
            "model with `save_pretrained` of transformers where you trust it"
        )


def _first_object(paths: Iterable[Path]) -> dict[str, Any]:
    return next((read_object(path) for path in paths), {})


def _pooling_modes(config: dict[str, Any], name: str) -> tuple[PoolingMode, ...]:
    modes = config.get("pooling_mode") or [
        mode for key, mode in _OLD_POOLING_KEYS.items() if config.get(key)
    ]
    modes = (modes,) if isinstance(modes, str) else tuple(modes or ("mean",))
    unknown = set(modes) - set(get_args(PoolingMode))
    if unknown:
        raise ConfigError(
            f"{name} pools by {sorted(unknown)}, expected some of {get_args(PoolingMode)}: "
            "choose another model"
        )
    return modes


def _read_modules(path: Path) -> list[tuple[str, Path]]:
    """Class name and folder of each module."""
    try:
        return [
            (entry["type"].rsplit(".", 1)[-1], path.parent / entry["path"])
            for entry in _read_json(path)
        ]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is malformed ({error!r}): fetch the model again") from error


def _read_json(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is unreadable ({error}): fetch the model again") from error
