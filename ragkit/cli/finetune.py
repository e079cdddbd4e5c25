"""`ragkit finetune RECIPE [key=value ...]` and `ragkit ablate RECIPE [key=value ...]`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ragkit.cli.common import AsJson, Quiet, Verbose, verbosity
from ragkit.cli.running import print_json, reporting

if TYPE_CHECKING:
    from ragkit.finetune.radit.recipe import RaditRecipe

FINETUNE_EXAMPLE = "Example: ragkit finetune radit/tiny data_dir=PATH rounds=2"
ABLATE_EXAMPLE = "Example: ragkit ablate radit/tiny data_dir=PATH"

Name = Annotated[str, typer.Argument(metavar="RECIPE", help="Path of a recipe, or its name.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE")]


def finetune(
    name: Name,
    overrides: Overrides = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew if the folder holds another run.")
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Tune a language model and a retriever on each other; a stopped run goes on where it was."""
    with reporting(as_json=as_json, verbosity=verbosity(verbose, quiet), resumable=True):
        from ragkit.finetune.radit.rounds import run_rounds
        from ragkit.finetune.radit.summary import summary_table

        summary = run_rounds(_load(name, overrides), overwrite=overwrite)
        if as_json:
            print_json({"schema": "ragkit.finetune/1", **summary})
        else:
            Console().print(summary_table(summary, title=name))


def ablate(
    name: Name,
    overrides: Overrides = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Answer all questions anew.")
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Compare closed book, no tuning, either step alone and both on the recipe's questions."""
    with reporting(as_json=as_json, verbosity=verbosity(verbose, quiet), resumable=True):
        from ragkit.finetune.radit.ablation import ablation_table, run_ablation

        report = run_ablation(_load(name, overrides), overwrite=overwrite)
        if as_json:
            print_json({"schema": "ragkit.ablate/1", **report})
        else:
            Console().print(ablation_table(report, title=name))


def _load(name: str, overrides: list[str] | None) -> "RaditRecipe":
    from ragkit.config import find_recipe, load_config, require_kind
    from ragkit.finetune.radit.recipe import RaditRecipe

    path: Path = find_recipe(name)
    require_kind(path, {"radit"})
    return load_config(RaditRecipe, path, overrides or [])
