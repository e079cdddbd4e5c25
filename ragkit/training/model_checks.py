"""What a model must be like to be trained."""

from typing import TypeAlias

import torch
from accelerate import Accelerator
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from ragkit.errors import ConfigError
from ragkit.models.interface import forward_parameters
from ragkit.training.objective import Batch, Objective

TrainedModel: TypeAlias = PreTrainedModel | PeftModel
"""A model of which all weights are trained, or only the adapters that are wrapped around it."""


def require_loss_arguments(model: TrainedModel, *, accepted: bool) -> None:
    """Refuse a model whose forward has no room for `num_items_in_batch`.

    Args:
        accepted: What transformers found out about it.

    Raises:
        ConfigError: There is none.
    """
    if not accepted:
        raise ConfigError(
            f"{type(model).__name__} must take num_items_in_batch and divide its loss by it, but "
            "its forward has no **kwargs: let it take them, and pass them on to the loss"
        )


def require_division(objective: Objective, model: nn.Module, batch: Batch) -> None:
    """Try on a batch whether the loss is divided by `num_items_in_batch`.

    A model that takes the argument and drops it has a loss that is too large by the number of
    processes and accumulated batches, and nothing else shows it. Leaves the model in evaluation
    mode and the random numbers as they were.

    Raises:
        ConfigError: The loss does not depend on `num_items_in_batch`.
    """
    targets = objective.count_targets(batch)
    devices = [targets.device] if targets.device.type == "cuda" else []
    model.eval()
    with torch.no_grad(), torch.random.fork_rng(devices):
        once, twice = (
            objective.loss(model, batch, num_items_in_batch=count)
            for count in (targets, 2 * targets)
        )
    if bool(once == twice) and bool(once != 0):
        raise ConfigError(
            f"the loss of {type(model).__name__} must be a sum divided by num_items_in_batch, but "
            "it does not depend on it: let forward pass num_items_in_batch on to the loss"
        )


def require_separate_documents(model: PreTrainedModel) -> None:
    """Try on rows of two documents whether the second reads the first.

    Positions that restart keep documents apart only in models that look for that; others learn
    from text that is not theirs, and nothing else shows it.

    Raises:
        ConfigError: The second document depends on the first, or there are no positions to give.
    """
    apart = "position_ids" in forward_parameters(model)
    if apart:
        # Single rows of one shape go through the same kernels: equal inputs give equal bits.
        one, other = (_second_logits(model, first) for first in (0, 1))
        apart = torch.equal(one, other)
    if not apart:
        raise ConfigError(
            f"{type(model).__name__} must keep the documents of a packed row apart by "
            "position_ids, but lets them read one another: train on rows of one document each, or "
            "load the model with attn_implementation='sdpa'"
        )


def _second_logits(model: PreTrainedModel, first: int) -> Tensor:
    """Logits of the second of two documents, the first of which is the token `first`."""
    device = model.device
    ids, positions = torch.tensor([[first, 2, 3]]), torch.tensor([[0, 0, 1]])
    model.eval()
    with torch.no_grad():
        output = model(input_ids=ids.to(device), position_ids=positions.to(device), use_cache=False)
    logits: Tensor = output.logits[:, 1:]
    return logits


def require_float32(model: nn.Module) -> None:
    """Refuse trainable weights in which small updates would be lost.

    Raises:
        ConfigError: Some are in another type.
    """
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            raise ConfigError(
                f"trainable weights must be in float32, but {name} is in {parameter.dtype}: load "
                "the model with dtype=torch.float32; bf16 computes in bfloat16 all the same"
            )


def require_equal_weights(model: nn.Module, accelerator: Accelerator) -> None:
    """Refuse weights that differ between processes: FSDP would take a shard of each.

    Raises:
        ConfigError: They differ.
    """
    if accelerator.num_processes == 1:
        return
    sums = [parameter.detach().double().sum() for parameter in model.parameters()]
    checksum = torch.stack(sums).sum().to(accelerator.device)
    if accelerator.gather(checksum).unique().numel() > 1:
        raise ConfigError(
            "the processes must start from equal weights, but theirs differ: set the seed before "
            "the model is made"
        )
