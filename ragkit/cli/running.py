"""How a command ends: results on stdout, one clear line on stderr, and an exit code."""

import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ragkit.console import ProgressKind, setup
from ragkit.data.text import clean
from ragkit.errors import RagkitError

INTERRUPTED = 128

logger = logging.getLogger(__name__)


@contextmanager
def reporting(
    *,
    as_json: bool = False,
    progress: ProgressKind = "auto",
    verbosity: int = 0,
    log_file: str = "",
    resumable: bool = False,
) -> Iterator[None]:
    """Run a command's work; an error becomes a message and an exit code, never a traceback.

    Args:
        as_json: Errors and interrupts, too, are one JSON object on stdout.
        verbosity: As for `ragkit.console.setup`; from 2 on an internal error shows its traceback.
        resumable: Whether an interrupted command goes on when it is run again.
    """
    sys.excepthook = _internal_error(as_json=as_json, traceback=verbosity >= 2)
    _stop_on_signals()
    try:
        setup(progress=progress, verbosity=verbosity, log_file=log_file)
        yield
    except RagkitError as error:
        _fail(error, error.exit_code, as_json=as_json)
    except _Stopped as stop:
        hint = f"; go on with: {shlex.join(sys.argv)}" if resumable else ""
        message = f"stopped by signal {stop.number}{hint}"
        if as_json:
            _print_error("Interrupted", INTERRUPTED + stop.number, message)
        sys.stderr.write(f"{message}\n")
        raise typer.Exit(INTERRUPTED + stop.number) from stop
    except BrokenPipeError:
        # The reader of stdout went away, such as `head`: nothing is left to say, to nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def print_table(title: str, rows: Iterable[tuple[str, object]]) -> None:
    """Show names and values on stdout, as they are: brackets in them mean nothing."""
    table = Table(title=plain(title), show_header=False)
    for name, value in rows:
        table.add_row(name, plain(str(value)))
    Console().print(table)


def plain(text: str) -> Text:
    """`text` without markup, and without what a terminal cannot encode."""
    return Text(clean(text)[0])


def print_json(result: Mapping[str, Any]) -> None:
    """Write the one JSON object of a command to stdout."""
    # In ASCII: whatever stdout encodes, and paths that are not UTF-8, come through.
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


class _Stopped(BaseException):
    """A signal asked the process to end; not an Exception, so that nothing mistakes it for one."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _stop_on_signals() -> None:
    """The first SIGINT or SIGTERM unwinds, so that locks and files are let go; the second ends."""

    def stop(number: int, frame: FrameType | None) -> None:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda again, _: os._exit(INTERRUPTED + again))
        raise _Stopped(number)

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stop)


def _fail(error: RagkitError, exit_code: int, *, as_json: bool) -> None:
    if as_json:
        _print_error(type(error).__name__, exit_code, str(error))
    sys.stderr.write(f"error: {error}\n")
    logger.debug("raised here", exc_info=error)
    raise typer.Exit(exit_code) from error


def _print_error(code: str, exit_code: int, hint: str) -> None:
    what = {"schema": "ragkit.error/1", "ok": False, "code": code}
    print_json({**what, "exit": exit_code, "hint": hint})


def _internal_error(
    *, as_json: bool, traceback: bool
) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if traceback:
            sys.__excepthook__(kind, error, trace)
        message = f"internal error: {kind.__name__}: {error}"
        if as_json:
            _print_error("InternalError", 1, message)
        sys.stderr.write(f"{message}\nrun again with -vv for the traceback, and report it\n")

    return show
