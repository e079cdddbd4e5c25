"""Stopping a run from outside: the first signal asks for a checkpoint, the second ends."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def ignore_interrupts(_worker: int) -> None:
    """Let Ctrl-C, which reaches all processes of a terminal, be the main process's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class StopRequest:
    """Whether SIGINT or SIGTERM arrived since the block was entered.

    The first signal puts the former handlers back, so that the second does what it would have
    done. Outside of the main thread, where Python allows no handlers, nothing is heard.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._former: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._hear) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def pass_on(self) -> None:
        """Send the process the signal that was held back."""
        if self.number is not None:
            signal.raise_signal(self.number)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}


class Ending(TrainerCallback):
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
