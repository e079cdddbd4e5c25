"""Loss and bits per byte on held-out rows."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from ragkit.errors import DataError
from ragkit.training.objective import Collator, Objective


@dataclass(frozen=True)
class HeldOut:
    """Rows that are not trained on.

    Args:
        rows: Map-style; the same collator takes them.
        num_bytes: Bytes of the text that the targets of all rows stand for, in UTF-8; without it
            there are no bits per byte.
    """

    rows: Any
    num_bytes: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """What was measured on held-out rows.

    Args:
        loss_nats: Mean over the targets of all rows.
    """

    loss_nats: float
    bits_per_byte: float | None


def require_targets(held_out: HeldOut, *, objective: Objective, collate: Collator) -> None:
    """Refuse rows of which there is nothing to measure; reads them up to the first target.

    Raises:
        DataError: There are no rows, or no targets in them.
    """
    batches = (collate([held_out.rows[row]]) for row in range(len(held_out.rows)))
    if not any(int(objective.count_targets(batch)) for batch in batches):
        raise DataError(
            f"the {len(held_out.rows)} held-out rows have no target: give some that have, or none"
        )


def evaluate(
    objective: Objective,
    model: nn.Module,
    held_out: HeldOut,
    *,
    collate: Collator,
    batch_size: int,
    accelerator: Accelerator,
) -> Evaluation:
    """The loss of `model` on all held-out rows, each counted once, whatever the processes."""
    model.eval()
    sums = torch.zeros(2, dtype=torch.float64)  # nats and targets
    with torch.no_grad():
        for rows, counts in _share(len(held_out.rows), batch_size, accelerator):
            batch = collate([held_out.rows[row] for row in rows])
            batch = {name: value.to(accelerator.device) for name, value in batch.items()}
            num_targets = objective.count_targets(batch)
            one = torch.ones_like(num_targets)
            loss = objective.loss(model, batch, num_items_in_batch=one)
            if counts:
                sums += torch.tensor([float(loss), float(num_targets)], dtype=torch.float64)
    if accelerator.num_processes > 1:
        sums = accelerator.reduce(sums.to(accelerator.device), reduction="sum")
    nats, num_targets = sums.tolist()
    bits_per_byte = nats / math.log(2) / held_out.num_bytes if held_out.num_bytes else None
    return Evaluation(loss_nats=nats / num_targets, bits_per_byte=bits_per_byte)


def _share(
    num_rows: int, batch_size: int, accelerator: Accelerator
) -> Iterator[tuple[range, bool]]:
    """The batches of rows of this process, and whether each counts.

    All processes get as many batches, since sharded models wait for one another in every forward
    pass: who has none left repeats the first, which then does not count.
    """
    starts = range(0, num_rows, batch_size)
    for first in range(0, len(starts), accelerator.num_processes):
        place = first + accelerator.process_index
        counts = place < len(starts)
        start = starts[place if counts else 0]
        yield range(start, min(start + batch_size, num_rows)), counts
