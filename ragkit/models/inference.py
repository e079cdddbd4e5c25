"""The state in which a causal LM only predicts: nothing dropped, no gradients."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from ragkit.models.memory import memory_errors


@contextmanager
def evaluating(model: PreTrainedModel, *, mend: str) -> Iterator[None]:
    """Keep `model` in evaluation mode and without gradients, and put it back as it was.

    Args:
        mend: What to do where memory gives out, for the message.

    Raises:
        StorageError: The device runs out of memory.
    """
    was_training = model.training
    model.train(False)
    try:
        with memory_errors(model.device, mend=mend), torch.no_grad():
            yield
    finally:
        model.train(was_training)
