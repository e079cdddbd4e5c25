"""The command line: one verb per command; parses, calls, prints."""

import sys


def main() -> None:
    """Run `ragkit`."""
    from ragkit.cli.app import app

    app()


def build_index() -> None:
    """Run `build-index`, which is `ragkit index build`."""
    from ragkit.cli.app import app

    app(["index", "build", *sys.argv[1:]], prog_name="ragkit")
