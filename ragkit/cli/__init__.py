"""The command line: one verb per command; parses, calls, prints."""

import signal
import sys


def main() -> None:
    """Run `ragkit`."""
    _run(sys.argv[1:])


def build_index() -> None:
    """Run `build-index`, which is `ragkit index build`."""
    _run(["index", "build", *sys.argv[1:]])


def _run(arguments: list[str]) -> None:
    # During the imports there is nothing to tidy up, so Ctrl-C just ends the process.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ragkit.cli.app import app

    app(arguments, prog_name="ragkit")
