"""Arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

IndexPath = Annotated[Path, typer.Argument(metavar="INDEX", help="The index folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Encoder = Annotated[
    str | None,
    typer.Option(help="Another path to the encoder than the one that the index names."),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:0,1 or auto.")]
Verbose = Annotated[int, typer.Option("-v", "--verbose", count=True, help="Say more; twice: all.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Show errors only.")]
Threads = Annotated[int | None, typer.Option(help="Threads of one search; all cores if not set.")]


def verbosity(verbose: int, quiet: bool) -> int:
    """The level that `-v` and `-q` ask for."""
    return -1 if quiet else verbose
