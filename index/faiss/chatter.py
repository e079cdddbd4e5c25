"""Keeps what C++ code writes to stderr off the terminal."""

import logging
import os
import re
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

logger = logging.getLogger(__name__)


class _Chatter:
    """Redirects file descriptor 2 while at least one caller wants silence."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callers = 0
        self._saved = -1
        self._caught: IO[bytes] | None = None
        self._python: tuple[IO[str], IO[str]] | None = None

    def begin(self) -> None:
        with self._lock:
            self._callers += 1
            if self._callers == 1:
                self._redirect()

    def end(self) -> None:
        with self._lock:
            self._callers -= 1
            if self._callers == 0 and self._caught is not None:
                self._restore(self._caught)

    def _redirect(self) -> None:
        try:
            self._saved = os.dup(2)
        except OSError:  # the program has closed its stderr: nothing to protect
            return
        self._caught = tempfile.TemporaryFile()  # noqa: SIM115  closed by `_restore`
        if _is_stderr(sys.stderr):
            # Progress bars and logs of Python are not chatter: they keep the terminal.
            direct = os.fdopen(os.dup(self._saved), "w", buffering=1, encoding=sys.stderr.encoding)
            self._python = (sys.stderr, direct)
            sys.stderr.flush()
            sys.stderr = direct
        os.dup2(self._caught.fileno(), 2)

    def _restore(self, caught: IO[bytes]) -> None:
        os.dup2(self._saved, 2)
        os.close(self._saved)
        if self._python is not None:
            original, direct = self._python
            if sys.stderr is direct:
                sys.stderr = original
            direct.close()
        caught.seek(0)
        _summarise(caught.read().decode(errors="replace"))
        caught.close()
        self._caught = self._python = None


_chatter = _Chatter()


@contextmanager
def capture_stderr() -> Iterator[None]:
    """Catches what C++ code writes to stderr, and logs one line for each kind of message."""
    _chatter.begin()
    try:
        yield
    finally:
        _chatter.end()


def _is_stderr(stream: IO[str] | None) -> bool:
    try:
        return stream is not None and stream.fileno() == 2
    except (OSError, ValueError):  # a test harness or notebook has put something else there
        return False


def _summarise(text: str) -> None:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kinds = Counter(re.sub(r"\d+", "#", line) for line in lines)
    examples = {re.sub(r"\d+", "#", line): line for line in reversed(lines)}
    for kind, count in kinds.items():
        logger.info("faiss wrote, %d times: %s", count, examples[kind])
