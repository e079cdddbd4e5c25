"""What a trainer needs to know besides the model."""

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from ragkit.training.checkpoints import Checkpoint, Checkpoints
from ragkit.training.folder import RunFolder
from ragkit.training.held_out import HeldOut
from ragkit.training.objective import Collator, Objective
from ragkit.training.options import TrainingOptions


@dataclass(frozen=True)
class RunSpec:
    """What a model is trained on, and where it is written down.

    Args:
        rows: Map-style; a row must be the same whenever it is read.
        row_tokens: Tokens of the first row, and of all if they are of equal length.
        tokenizer: Goes with the model into its folder.
        start: The checkpoint to go on from; `None` begins anew.
    """

    rows: Any
    row_tokens: int
    collator: Collator
    objective: Objective
    options: TrainingOptions
    folder: RunFolder
    held_out: HeldOut | None
    tokenizer: PreTrainedTokenizerBase | None
    start: Checkpoint | None

    @property
    def checkpoints(self) -> Checkpoints:
        """Where checkpoints go."""
        return Checkpoints(self.folder.checkpoints, limit=self.options.save_total_limit)

    @property
    def start_step(self) -> int:
        """The step of the checkpoint; 0 for none."""
        return self.start.step if self.start else 0

    @property
    def best_by(self) -> str | None:
        """What decides which model is kept; `None` keeps the last."""
        return self.held_out.best_by if self.held_out else None

    @property
    def order_seed(self) -> int | None:
        """Of the order of rows; `None` keeps that of the dataset."""
        return self.options.seed if self.options.train_sampling_strategy == "random" else None
