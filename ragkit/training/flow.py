"""What follows an update, where it is not what transformers would do."""

from collections.abc import Callable

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Flow(TrainerCallback):
    """Ends a run that was asked to stop with a checkpoint, and one that is done with a line.

    Args:
        stopping: Whether the run was asked to stop.
    """

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self._stopping = stopping

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Set what transformers does next."""
        if state.global_step >= state.max_steps:
            control.should_log = True
            control.should_save = False  # what follows is the model itself
        elif self._stopping():
            control.should_save = control.should_training_stop = True
