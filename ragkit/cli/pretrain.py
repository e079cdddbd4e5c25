"""`ragkit pretrain RECIPE [key=value ...]`."""

import dataclasses
from typing import Annotated

import typer

from ragkit.cli.common import AsJson, Quiet, Verbose, verbosity
from ragkit.cli.running import print_json, print_table, reporting

EXAMPLE = "Example: ragkit pretrain pretrain/llama3-tiny data_dir=PATH training.num_tokens=50000"


def pretrain(
    name: Annotated[str, typer.Argument(metavar="RECIPE", help="Path of a recipe, or its name.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew if the folder holds another run.")
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Train a tokenizer and a language model on text; a stopped run goes on where it was."""
    with reporting(as_json=as_json, verbosity=verbosity(verbose, quiet), resumable=True):
        from accelerate import PartialState

        from ragkit.config import find_recipe, load_config, require_kind
        from ragkit.finetune.pretrain import PretrainRecipe, run_pretrain

        path = find_recipe(name)
        require_kind(path, {"pretrain"})
        recipe = load_config(PretrainRecipe, path, overrides or [])
        facts = dataclasses.asdict(run_pretrain(recipe, overwrite=overwrite))
        state = PartialState()
        if state.is_main_process and as_json:
            print_json({"schema": "ragkit.pretrain/1", **facts})
        elif state.is_main_process:
            print_table(name, facts.items())
        state.destroy_process_group()
