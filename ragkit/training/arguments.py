"""From options to transformers' `TrainingArguments`."""

import os
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from ragkit.errors import ConfigError, MissingDependencyError
from ragkit.training.options import TrainingOptions
from ragkit.training.schedules import scheduler_arguments

FSDP_VARIABLE = "ACCELERATE_USE_FSDP"
PRECISION_VARIABLE = "ACCELERATE_MIXED_PRECISION"


def make_arguments(
    options: TrainingOptions, *, max_steps: int, out: Path, evaluates: bool
) -> TrainingArguments:
    """The arguments of transformers' trainer; starts the process group of a distributed run.

    Raises:
        ConfigError: The schedule does not fit the run, or the processes do not fit the hardware.
        MissingDependencyError: A package that `report_to` needs is absent.
    """
    _require_reporters(options)
    use_cpu = options.use_cpu or not torch.accelerator.is_available()
    _require_fitting_launch(options, use_cpu=use_cpu)
    explicit: dict[str, Any] = {
        "output_dir": str(out),
        "max_steps": max_steps,
        "use_cpu": use_cpu,
        "dataloader_pin_memory": not use_cpu,
        "eval_strategy": "steps" if evaluates else "no",
        "eval_steps": options.eval_steps or max_steps,
        "save_strategy": "steps",
        "report_to": list(options.report_to),
        **scheduler_arguments(options, max_steps=max_steps),
        **_OURS,
    }
    return TrainingArguments(**_shared(options) | explicit)


def _shared(options: TrainingOptions) -> dict[str, Any]:
    """What transformers has by the same name, but for what `RagkitTrainer` does itself."""
    theirs = {field.name for field in fields(TrainingArguments)} - _DONE_HERE
    names = [field.name for field in fields(options) if field.name in theirs]
    return {name: getattr(options, name) for name in names}


_DONE_HERE = {"num_train_epochs", "train_sampling_strategy"}

_OURS: dict[str, Any] = {
    # What these would do, `RagkitTrainer` does: its rows begin where the checkpoint stands, a loss
    # that is not finite stops it, and checkpoints are dropped once the next is whole.
    "ignore_data_skip": True,
    "logging_nan_inf_filter": False,
    "save_total_limit": None,
    "disable_tqdm": True,
    "remove_unused_columns": False,
    "average_tokens_across_devices": True,
}


def _require_reporters(options: TrainingOptions) -> None:
    for package in options.report_to:
        if find_spec(package) is None:
            raise MissingDependencyError(
                f"report_to {package} needs the package {package}: run `pip install {package}`"
            )


def _require_fitting_launch(options: TrainingOptions, *, use_cpu: bool) -> None:
    precision = os.environ.get(PRECISION_VARIABLE, "no")
    if precision not in ("no", "bf16" if options.bf16 else "no"):
        raise ConfigError(
            f"the accelerate configuration has mixed_precision {precision} and the options have "
            f"bf16 {options.bf16}: set mixed_precision to no, and choose by bf16 alone"
        )
    if use_cpu and os.environ.get(FSDP_VARIABLE, "").lower() in ("1", "true", "yes"):
        raise ConfigError(
            "the accelerate configuration asks for FSDP, which needs accelerators, but the run is "
            "on the CPU, where accelerate would fall back to DDP: launch with "
            "recipes/accelerate/ddp.yaml"
        )
    if not use_cpu and torch.accelerator.device_count() > 1 and "LOCAL_RANK" not in os.environ:
        raise ConfigError(
            f"{torch.accelerator.device_count()} devices are visible to one process: launch with "
            "`accelerate launch --config_file recipes/accelerate/ddp.yaml`, or show it one device "
            "with CUDA_VISIBLE_DEVICES=0"
        )
