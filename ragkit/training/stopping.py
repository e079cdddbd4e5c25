"""Stopping a run from outside: the first signal asks for a checkpoint, the second ends."""

import signal
import threading
from types import FrameType
from typing import Any

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
