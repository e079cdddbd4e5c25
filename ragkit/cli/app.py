"""The `ragkit` command and its verbs."""

from typing import Annotated

import typer

import ragkit
from ragkit.cli import build, evaluate, evaluate_lm, finetune, generate, index, models, pretrain

app = typer.Typer(
    help="Retrieval-augmented language models: build an index, search it, train with it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
index_app = typer.Typer(help="Build, search and check an index.", no_args_is_help=True)
eval_app = typer.Typer(
    help="Measure retrieval and language models.", no_args_is_help=True, cls=evaluate.RecipeGroup
)
models_app = typer.Typer(help="List, describe and export language models.", no_args_is_help=True)
app.add_typer(index_app, name="index")
app.add_typer(eval_app, name="eval")
app.add_typer(models_app, name="models")

app.command("pretrain", epilog=pretrain.EXAMPLE)(pretrain.pretrain)
app.command("finetune", epilog=finetune.FINETUNE_EXAMPLE)(finetune.finetune)
app.command("ablate", epilog=finetune.ABLATE_EXAMPLE)(finetune.ablate)
app.command("generate", epilog=generate.EXAMPLE)(generate.generate)

index_app.command("build", epilog=build.EXAMPLE)(build.build)
index_app.command("search", epilog=index.SEARCH_EXAMPLE)(index.search)
index_app.command("info", epilog="Example: ragkit index info my.index --json")(index.info)
index_app.command("check", epilog="Example: ragkit index check my.index -k 10")(index.check)
index_app.command("verify", epilog="Example: ragkit index verify my.index")(index.verify)
eval_app.command("retrieval", epilog=evaluate.EXAMPLE)(evaluate.retrieval)
eval_app.command("perplexity", epilog=evaluate_lm.EXAMPLE)(evaluate_lm.perplexity)
eval_app.command(evaluate.RECIPE_COMMAND, hidden=True)(evaluate.recipe)
models_app.command("list", epilog="Example: ragkit models list")(models.list_presets)
models_app.command("describe", epilog=models.DESCRIBE_EXAMPLE)(models.describe_model)
models_app.command("export", epilog=models.EXPORT_EXAMPLE)(models.export)


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
    """Retrieval-augmented language models: build an index, search it, train with it."""
