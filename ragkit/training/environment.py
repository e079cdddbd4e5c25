"""Versions and hardware, for `environment.json`."""

import os
import platform
from typing import Any

import torch
from transformers import TrainingArguments

from ragkit.versions import versions

PACKAGES = ("accelerate", "numpy", "peft", "safetensors", "tokenizers", "torch", "transformers")


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
