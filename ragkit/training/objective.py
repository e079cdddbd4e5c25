"""What a run minimises: a sum over targets, divided by the targets of the global batch."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn

from ragkit.data.collators import IGNORED_LABEL
from ragkit.models.interface import forward_parameters

Batch = Mapping[str, Any]
Collator = Callable[[list[Any]], dict[str, Any]]
"""Makes a batch of some rows."""


class Objective(Protocol):
    """How a batch is counted, and how its loss is computed."""

    def count_targets(self, batch: Batch) -> Tensor:
        """Terms of the loss's sum, a scalar."""
        ...

    def count_tokens(self, batch: Batch) -> int:
        """Positions that the model reads, padding included."""
        ...

    def loss(self, model: nn.Module, batch: Batch, *, num_items_in_batch: Tensor) -> Tensor:
        """The sum over this batch's targets divided by `num_items_in_batch`, a scalar.

        Args:
            num_items_in_batch: Targets of all batches of the update, over all processes.
        """
        ...


class NextToken:
    """A causal LM's own loss: `labels[t]` is predicted from what stands before `t`."""

    def count_targets(self, batch: Batch) -> Tensor:
        """Labels that count; the first of a row never does, as nothing predicts it."""
        return (batch["labels"][..., 1:] != IGNORED_LABEL).sum()

    def count_tokens(self, batch: Batch) -> int:
        """Positions of `input_ids`, padding included."""
        return int(batch["input_ids"].numel())

    def loss(self, model: nn.Module, batch: Batch, *, num_items_in_batch: Tensor) -> Tensor:
        """The loss that the model computes from `labels`, without its logits if it can do so."""
        bare: Any = extract_model_from_parallel(model)
        # Our models leave them out in training steps anyway, but not when they are only measured.
        skip = {"skip_logits": True} if "skip_logits" in forward_parameters(bare) else {}
        return model(**batch, num_items_in_batch=num_items_in_batch, **skip).loss
