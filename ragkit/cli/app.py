"""The `ragkit` command and its verbs."""

from typing import Annotated

import typer

import ragkit
from ragkit.cli import build, evaluate, index

app = typer.Typer(
    help="Retrieval-augmented language models: build an index, search it, measure it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
index_app = typer.Typer(help="Build, search and check an index.", no_args_is_help=True)
eval_app = typer.Typer(help="Measure retrieval.", no_args_is_help=True, cls=evaluate.RecipeGroup)
app.add_typer(index_app, name="index")
app.add_typer(eval_app, name="eval")

index_app.command("build", epilog=build.EXAMPLE)(build.build)
index_app.command("search", epilog=index.SEARCH_EXAMPLE)(index.search)
index_app.command("info", epilog="Example: ragkit index info my.index --json")(index.info)
index_app.command("check", epilog="Example: ragkit index check my.index -k 10")(index.check)
index_app.command("verify", epilog="Example: ragkit index verify my.index")(index.verify)
eval_app.command("retrieval", epilog=evaluate.EXAMPLE)(evaluate.retrieval)
eval_app.command(evaluate.RECIPE_COMMAND, hidden=True)(evaluate.recipe)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ragkit {ragkit.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Retrieval-augmented language models: build an index, search it, measure it."""
