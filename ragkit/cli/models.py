"""`ragkit models list|describe|export`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ragkit.cli.common import AsJson, Quiet, Verbose, verbosity
from ragkit.cli.running import plain, print_json, print_table, reporting

DESCRIBE_EXAMPLE = "Example: ragkit models describe llama3.1-8b --context-length 131072 --json"
EXPORT_EXAMPLE = "Example: ragkit models export runs/mine/model -o mine-hf"
_LISTED = {
    "parameters": "parameters",
    "num_hidden_layers": "layers",
    "hidden_size": "hidden size",
    "max_position_embeddings": "context",
}

Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")]


def list_presets(as_json: AsJson = False) -> None:
    """List the presets: architectures with their sizes, without weights."""
    with reporting(as_json=as_json):
        from ragkit.models.describe import describe
        from ragkit.models.llama3.presets import PRESETS

        found = [describe(name).as_dict() for name in PRESETS]
        presets = [{name: one[name] for name in ("name", *_LISTED)} for one in found]
        if as_json:
            print_json({"schema": "ragkit.models_list/1", "presets": presets})
            return
        table = Table("name", title="presets")
        for heading in _LISTED.values():
            table.add_column(heading, justify="right", no_wrap=True)
        for one in presets:
            table.add_row(one["name"], *(f"{one[name]:,}" for name in _LISTED))
        Console().print(table)


def describe_model(
    name: Annotated[
        str, typer.Argument(help="A preset, folder, GGUF file, hub id or package:NAME.")
    ],
    context_length: Annotated[
        int | None,
        typer.Option(help="Tokens over which FLOPs are averaged; 8192, or all the model reads."),
    ] = None,
    revision: Revision = None,
    as_json: AsJson = False,
) -> None:
    """Say how large a model is and what a token costs, without loading its weights."""
    with reporting(as_json=as_json):
        from ragkit.models.describe import describe

        facts = describe(name, context_length=context_length, revision=revision).as_dict()
        if as_json:
            print_json(facts)
            return
        del facts["schema"], facts["name"]
        # A bool is an int: True with a thousands separator would be 1.
        shown = (
            (key, f"{value:,}" if type(value) is int else value) for key, value in facts.items()
        )
        print_table(name, shown)


def export(
    model: Annotated[str, typer.Argument(help="A folder, GGUF file, hub id or package:NAME.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder to write.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the model there.")
    ] = False,
    revision: Revision = None,
    as_json: AsJson = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Write a checkpoint that plain transformers opens, with equal logits."""
    with reporting(as_json=as_json, verbosity=verbosity(verbose, quiet)):
        from ragkit.models.export import export_model

        written = export_model(model, out, overwrite=overwrite, revision=revision)
        if as_json:
            print_json({"schema": "ragkit.models_export/1", "ok": True, "path": str(written)})
        else:
            Console().print(plain(f"wrote {written}"))
