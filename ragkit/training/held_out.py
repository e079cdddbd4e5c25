"""Loss and bits per byte on held-out rows."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ragkit.errors import DataError
from ragkit.training.objective import Batch, Collator, Objective


class Measure(Protocol):
    """What is asked of a model on held-out rows besides its loss."""

    def __call__(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Numbers of each row by their names, `[rows]` each, of which the means are taken."""
        ...


@dataclass(frozen=True)
class HeldOut:
    """Rows that are not trained on.

    Args:
        rows: Map-style; the same collator takes them.
        num_bytes: Bytes of the text that the targets of all rows stand for, in UTF-8; without it
            there are no bits per byte.
        measure: Gives more numbers than the loss.
        best_by: The name of one of those. The model that is kept is the one that had the largest
            mean of it, the first of equals: the model before the first step, that of an evaluation
            in between, or the last.
    """

    rows: Any
    num_bytes: int | None = None
    measure: Measure | None = None
    best_by: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """What was measured on held-out rows.

    Args:
        loss_nats: Mean over the targets of all rows.
        measures: Means over all rows.
    """

    loss_nats: float
    bits_per_byte: float | None
    measures: Mapping[str, float] = field(default_factory=dict)

    def numbers(self) -> dict[str, float]:
        """All that was measured, by name."""
        found = {"loss_nats": self.loss_nats, "bits_per_byte": self.bits_per_byte}
        return {name: x for name, x in found.items() if x is not None} | dict(self.measures)


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
    sums: dict[str, float] = {"nats": 0.0, "targets": 0.0, "rows": 0.0}
    with torch.no_grad():
        for rows, counts in _share(len(held_out.rows), batch_size, accelerator):
            batch = collate([held_out.rows[row] for row in rows])
            batch = {name: value.to(accelerator.device) for name, value in batch.items()}
            found = {"rows": float(len(rows)), **_measure(objective, model, batch, held_out)}
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + value * counts
    total = dict(zip(sums, _add_up(list(sums.values()), accelerator), strict=True))
    nats, num_targets, num_rows = (total.pop(name) for name in ("nats", "targets", "rows"))
    return Evaluation(
        loss_nats=nats / num_targets,
        bits_per_byte=nats / math.log(2) / held_out.num_bytes if held_out.num_bytes else None,
        measures={name: value / num_rows for name, value in total.items()},
    )


def _measure(
    objective: Objective, model: nn.Module, batch: Batch, held_out: HeldOut
) -> dict[str, float]:
    """Sums over one batch: nats, targets and what is measured besides."""
    num_targets = objective.count_targets(batch)
    nats = objective.loss(model, batch, num_items_in_batch=torch.ones_like(num_targets))
    found = held_out.measure(model, batch) if held_out.measure else {}
    sums = {name: float(values.double().sum()) for name, values in found.items()}
    return {"nats": float(nats), "targets": float(num_targets), **sums}


def _add_up(sums: list[float], accelerator: Accelerator) -> list[float]:
    """Sums over all processes."""
    if accelerator.num_processes == 1:
        return sums
    total = torch.tensor(sums, dtype=torch.float64, device=accelerator.device)
    added: list[float] = accelerator.reduce(total, reduction="sum").tolist()
    return added


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
