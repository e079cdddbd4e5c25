"""Terminal output of the commands: logs and progress on stderr, results alone on stdout.

The library calls `progress` and `track` everywhere; both are silent until a program calls `setup`.
"""

import json
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, Protocol, TypeVar

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ragkit.errors import StorageError

T = TypeVar("T")
ProgressKind = Literal["auto", "bar", "json", "none"]

LOG_EVERY_S = 30.0
JSON_EVERY_S = 1.0
QUIET_S = 5.0

logger = logging.getLogger(__name__)
_kind: ProgressKind | Literal["log"] = "none"
_shown: Progress | None = None


class Bar(Protocol):
    """A stage that is under way."""

    def advance(self, count: int = 1, **facts: float | int | str) -> None:
        """Count `count` more units as done; `facts` are shown beside the bar."""
        ...


def setup(*, progress: ProgressKind = "auto", verbosity: int = 0, log_file: str = "") -> None:
    """Send logs and progress to stderr; called once, by a program, never by the library.

    Args:
        progress: `auto` is a bar on a terminal and a log line now and then elsewhere.
        verbosity: -1 errors only, 0 warnings, 1 information, 2 and more everything.

    Raises:
        StorageError: The log file cannot be written.
    """
    global _kind
    terminal = sys.stderr.isatty()
    _kind = ("bar" if terminal else "log") if progress == "auto" else progress
    level = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    handler = RichHandler(console=Console(stderr=True), show_path=verbosity > 1, show_time=terminal)
    handlers: list[logging.Handler] = [handler]
    if log_file:
        handlers.append(_open_log(log_file))
    package = logging.getLogger("ragkit")
    package.handlers, package.propagate = handlers, False
    package.setLevel(min(level, logging.INFO) if _kind == "log" and verbosity == 0 else level)


def _open_log(path: str) -> logging.Handler:
    try:
        return logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"cannot write the log file {path}: {error.strerror}: check its path and permissions"
        ) from error


@contextmanager
def progress(description: str, *, total: int | None = None, shown: bool = True) -> Iterator[Bar]:
    """A bar for one stage of work, as `setup` chose: drawn, logged, JSON lines, or silent."""
    if _kind == "bar" and shown:
        with _display() as drawn:
            bar = _Drawn(drawn, description, total)
            yield bar
            bar.close()
    elif _kind == "none" or not shown:
        yield _Silent()
    else:
        written = _Written(description, total, as_json=_kind == "json")
        yield written
        written.close()


def track(items: Iterable[T], *, description: str, total: int | None = None) -> Iterator[T]:
    """`items`, with a bar that counts them."""
    with progress(description, total=total) as bar:
        for item in items:
            yield item
            bar.advance()


@contextmanager
def _display() -> Iterator[Progress]:
    """The one display of the terminal: a stage within a stage adds its line to it."""
    global _shown
    if _shown is not None:
        yield _shown
        return
    with _draw() as _shown:
        try:
            yield _shown
        finally:
            _shown = None


def _draw() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}"),
    )
    return Progress(*columns, console=Console(stderr=True), transient=False)


class _Silent:
    def advance(self, count: int = 1, **facts: float | int | str) -> None:
        pass


class _Drawn:
    def __init__(self, drawn: Progress, description: str, total: int | None) -> None:
        self._drawn = drawn
        self._task = drawn.add_task(description, total=total, facts="")

    def advance(self, count: int = 1, **facts: float | int | str) -> None:
        shown = "  ".join(f"{name} {_short(value)}" for name, value in facts.items())
        self._drawn.update(self._task, advance=count, facts=shown)

    def close(self) -> None:
        """Leave the line if it is the last one, take it away if it belonged to a larger stage."""
        if len(self._drawn.task_ids) > 1:
            self._drawn.remove_task(self._task)


class _Written:
    """Progress where nobody watches: a log line every half minute or a JSON line every second."""

    def __init__(self, description: str, total: int | None, *, as_json: bool) -> None:
        self._description, self._total, self._as_json = description, total, as_json
        self._facts: dict[str, float | int | str] = {}
        self._done, self._started = 0, time.monotonic()
        self._written = self._started

    def advance(self, count: int = 1, **facts: float | int | str) -> None:
        self._done += count
        self._facts = facts
        if time.monotonic() - self._written >= (JSON_EVERY_S if self._as_json else LOG_EVERY_S):
            self.write()

    def close(self) -> None:
        """The last line, unless the stage was over before anyone could have wondered."""
        if self._as_json or time.monotonic() - self._started >= QUIET_S:
            self.write()

    def write(self) -> None:
        self._written = time.monotonic()
        elapsed_s = self._written - self._started
        left = (self._total or 0) - self._done
        eta_s = round(elapsed_s / self._done * left, 1) if self._total and self._done else None
        if self._as_json:
            counts = {"stage": self._description, "done": self._done, "total": self._total}
            times = {"elapsed_s": round(elapsed_s, 1), "eta_s": eta_s}
            sys.stderr.write(json.dumps({**counts, **times, **self._facts}) + "\n")
        else:
            of = f" of {self._total}" if self._total else ""
            facts = "".join(f", {name} {_short(value)}" for name, value in self._facts.items())
            logger.info("%s: %d%s in %.0f s%s", self._description, self._done, of, elapsed_s, facts)


def _short(value: float | int | str) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
