"""Versions and hardware, for `environment.json`."""

import json
import logging
import os
import platform
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from ragkit.storage import durable_file
from ragkit.versions import versions

PACKAGES = ("accelerate", "numpy", "peft", "safetensors", "tokenizers", "torch", "transformers")

logger = logging.getLogger(__name__)


def note_environment(path: Path, arguments: TrainingArguments, *, resumed: bool) -> None:
    """Write down what a run runs on; warn where it began on something else.

    Raises:
        StorageError: The disk is full or failing.
    """
    now = environment(arguments)
    if resumed and path.is_file():
        former = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name in now if former.get(name) != now[name]]
        if changed:
            logger.warning("the run goes on with other %s: bits may differ", ", ".join(changed))
    with durable_file(path) as file:
        file.write((json.dumps(now, indent=1) + "\n").encode())


def environment(arguments: TrainingArguments) -> dict[str, Any]:
    """What a run ran on, as JSON values."""
    return {
        **versions(PACKAGES),
        "device": device_name(arguments.device),
        "num_processes": arguments.world_size,
        "num_threads": torch.get_num_threads(),
        "num_cores": os.cpu_count(),
    }


def device_name(device: torch.device) -> str:
    """The accelerator's name, or what the system calls its processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()
