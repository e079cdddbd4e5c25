"""The processors that turn logits into the distribution that tokens are chosen from."""

from collections.abc import Sequence
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ragkit.decoding.options import GenerationOptions


@runtime_checkable
class KeepsRows(Protocol):
    """A processor that holds something per row, and so has to know which rows go on."""

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but those at `rows`, `[kept]`."""
        ...


class RepetitionPenalty(RepetitionPenaltyLogitsProcessor):
    """transformers' penalty, for rows that leave the batch when they are finished."""

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but those at `rows`, `[kept]`."""
        self.prompt_ignore_length = cast(Tensor, self.prompt_ignore_length)[rows]


def build_chain(
    options: GenerationOptions,
    *,
    padding: Sequence[int],
    device: torch.device,
    processors: Sequence[LogitsProcessor] = (),
) -> list[LogitsProcessor]:
    """The processors in transformers' order: penalty, your own, then what shapes the drawing.

    Args:
        padding: Tokens before each row's prompt, which no penalty may see.
        processors: Your own; see raw logits but for the repetition penalty.
    """
    chain: list[LogitsProcessor] = []
    if options.repetition_penalty != 1:
        ignored = torch.tensor(padding, device=device)
        chain.append(RepetitionPenalty(float(options.repetition_penalty), ignored))
    chain += processors
    if options.do_sample and options.temperature != 1:
        chain.append(TemperatureLogitsWarper(float(options.temperature)))
    if options.top_k is not None:
        chain.append(TopKLogitsWarper(options.top_k))
    if options.top_p is not None and options.top_p < 1:
        chain.append(TopPLogitsWarper(float(options.top_p)))
    if options.min_p is not None:
        chain.append(MinPLogitsWarper(float(options.min_p)))
    return chain
