"""Checkpoints that plain transformers opens, with equal logits."""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from ragkit.errors import CheckpointError, ConfigError
from ragkit.models.checkpoint import read_config, save_checkpoint
from ragkit.models.loading import find_checkpoint, load_weights
from ragkit.models.tokenizer import load_tokenizer, require_vocabulary
from ragkit.storage import published_folder


def export_model(
    spec: str | Path, out: Path, *, overwrite: bool = False, revision: str | None = None
) -> Path:
    """`out`, with the model of `spec` under transformers' own type, its tokenizer and settings.

    A Llama of ragkit or a GGUF file becomes a `llama` checkpoint; any other causal LM is saved as
    it is. Weights keep their dtype. The folder appears whole or not at all.

    Args:
        spec: As for `load_model`.
        overwrite: Replace the model that `out` holds.

    Raises:
        ConfigError: `out` is a file, is not empty, or is the model itself.
        CheckpointError: The model cannot be read, or holds NaN or infinity.
        StorageError: `out` cannot be written.
    """
    folder = find_checkpoint(spec, revision=revision)
    target = out.expanduser().absolute()
    _require_free(target, folder, overwrite=overwrite)
    config, tokenizer = read_config(folder), load_tokenizer(folder)
    cpu = torch.device("cpu")
    model = load_weights(folder, config, implementation="transformers", dtype="auto", device=cpu)
    require_vocabulary(tokenizer, model, folder)
    _require_finite(model, folder)
    with published_folder(target) as partial:
        save_checkpoint(model, tokenizer, partial)
    return target


def _require_finite(model: PreTrainedModel, folder: Path) -> None:
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{folder}: tensor {name} holds NaN or infinity, so the model is of no use: export "
                "an earlier checkpoint"
            )


def _require_free(target: Path, source: Path, *, overwrite: bool) -> None:
    if target.exists() and not target.is_dir():
        raise ConfigError(f"{target} is a file: give a folder that does not exist yet")
    if target.resolve() in (source.resolve(), *source.resolve().parents):
        raise ConfigError(f"{target} holds the model itself: give another folder")
    if not target.exists() or not any(target.iterdir()):
        return
    if not overwrite:
        raise ConfigError(f"{target} is not empty: give another folder, or --overwrite")
    if not (target / "config.json").is_file():
        raise ConfigError(
            f"{target} holds something else than a model (no config.json), which --overwrite does "
            "not remove: give another folder"
        )
