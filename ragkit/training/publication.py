"""The folder of a trained model: the last one, or the best one so far."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import Trainer

from ragkit.storage import durable_file, published_folder
from ragkit.training.checkpoints import writing
from ragkit.training.model_checks import TrainedModel
from ragkit.training.run_spec import RunSpec

ARGUMENTS_NAME = "training_args.bin"
"""A pickle that transformers puts beside the weights; nobody reads it."""
SELECTION_NAME = "selection.json"
"""Beside the weights: of which step they are, and what was measured then."""


def trained_folder(model: TrainedModel, spec: RunSpec) -> Path:
    """Where the trained model goes; of one with adapters only these."""
    return spec.folder.adapter if isinstance(model, PeftModel) else spec.folder.model


def publish_model(
    trainer: Trainer, target: Path, spec: RunSpec, *, selection: Mapping[str, Any] | None = None
) -> None:
    """Gather shards from all processes; the first one writes them.

    Args:
        selection: Why this model was chosen.

    Raises:
        StorageError: The disk is full or failing.
    """
    with writing(target):
        if not trainer.is_world_process_zero():
            trainer.save_model(str(target))
            return
        with published_folder(target) as unfinished:
            trainer.save_model(str(unfinished))
            if spec.tokenizer is not None:
                spec.tokenizer.save_pretrained(unfinished)
            (unfinished / ARGUMENTS_NAME).unlink()
            if selection is not None:
                with durable_file(unfinished / SELECTION_NAME) as file:
                    file.write((json.dumps(dict(selection)) + "\n").encode())


def read_selection(target: Path) -> dict[str, Any] | None:
    """Why the model at `target` was chosen; `None` if there is none yet."""
    path = target / SELECTION_NAME
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
