"""How fast a run is: the progress bar and `timings.jsonl`.

`flops_share` is the rate over that of hardware at its peak that trains all weights of the model
and lets each token attend to all before it in its row. What a run saves, by documents that are
masked from one another or by frozen weights below an adapter, is not deducted: there the share is
larger than that of the FLOPs that were done. Activations that are computed again are not added.
"""

import logging
import time

import torch
from transformers import (
    PreTrainedConfig,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ragkit.console import Bar
from ragkit.errors import ConfigError
from ragkit.models.flops import training_flops_per_token
from ragkit.nn.flops import peak_flops
from ragkit.training.folder import RunFolder
from ragkit.training.tally import Tally

logger = logging.getLogger(__name__)


class Pace(TrainerCallback):
    """Measures the time of updates, without evaluations and checkpoints.

    Args:
        tally: Counts the tokens.
        bar: Shows what is measured.
        folder: Holds the timings; the first process writes them.
        max_rate: Tokens per second of hardware at its peak, if that is known.
    """

    def __init__(
        self, tally: Tally, bar: Bar, *, folder: RunFolder, max_rate: float | None
    ) -> None:
        self._tally, self._bar, self._folder = tally, bar, folder
        self._max_rate = max_rate
        self._mark_s, self._mark_tokens = 0.0, tally.num_tokens
        self._line = self._total = (0.0, 0)

    @property
    def seconds(self) -> float:
        """Of all updates."""
        return self._total[0]

    @property
    def tokens_per_s(self) -> float:
        """Of all updates."""
        return _rate(self._total)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Start the clock."""
        self._mark_s = time.perf_counter()

    # The time of an evaluation or a checkpoint belongs to no update.
    on_evaluate = on_save = on_train_begin

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Count an update."""
        now = time.perf_counter()
        passed = (now - self._mark_s, self._tally.num_tokens - self._mark_tokens)
        self._mark_s, self._mark_tokens = now, self._tally.num_tokens
        self._line, self._total = _add(self._line, passed), _add(self._total, passed)
        self._bar.advance(loss=self._tally.last_loss, tokens_per_s=_rate(self._line))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        """Write a line beside each line of the metrics."""
        if logs and "loss" in logs and state.is_world_process_zero:
            rate = _rate(self._line)
            share = rate / self._max_rate if self._max_rate else None
            line = {"step": state.global_step, "seconds": self._line[0]}
            self._folder.timings.append({**line, "tokens_per_s": rate, "flops_share": share})
            self._line = (0.0, 0)


def find_max_rate(
    config: PreTrainedConfig, arguments: TrainingArguments, *, row_tokens: int
) -> float | None:
    """Tokens per second of all processes at the peak of their hardware, if it is known."""
    dtype = torch.bfloat16 if arguments.bf16 else torch.float32
    try:
        flops = training_flops_per_token(config, row_tokens)
    except ConfigError as error:
        logger.info("there will be no flops_share: %s", error)
        return None
    return peak_flops(arguments.device, dtype) * arguments.world_size / flops


def _add(one: tuple[float, int], other: tuple[float, int]) -> tuple[float, int]:
    return one[0] + other[0], one[1] + other[1]


def _rate(seconds_and_tokens: tuple[float, int]) -> float:
    seconds, num_tokens = seconds_and_tokens
    return num_tokens / seconds if seconds else 0.0
