"""A program for `accelerate launch`: a tiny run, and whether its weights were sharded."""

import sys

import torch
from torch.distributed.tensor import DTensor

from tests.training.tiny import make_model, make_options, run


def is_sharded(model):
    """Whether each process holds a part of every parameter."""
    return all(
        isinstance(parameter, DTensor) and parameter.to_local().numel() < parameter.numel()
        for parameter in model.parameters()
    )


if __name__ == "__main__":
    out, rows_at_once = sys.argv[1:]
    model = make_model()
    options = make_options(
        per_device_train_batch_size=int(rows_at_once), use_cpu=not torch.cuda.is_available()
    )
    run(out, model=model, options=options)
    sys.stdout.write(f"sharded={is_sharded(model)}\n")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
