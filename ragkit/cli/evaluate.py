"""`ragkit eval retrieval INDEX --queries F --qrels F` and `ragkit eval RECIPE [key=value ...]`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from ragkit.cli.common import (
    AsJson,
    Device,
    Encoder,
    IndexPath,
    Quiet,
    Threads,
    Verbose,
    verbosity,
)
from ragkit.cli.evaluate_lm import show_perplexity
from ragkit.cli.running import print_json, reporting

if TYPE_CHECKING:
    from ragkit.evaluation.retrieval import RetrievalReport

EXAMPLE = (
    "Example: ragkit eval retrieval my.index --queries queries.jsonl --qrels qrels.tsv; or a "
    "recipe: ragkit eval retrieval/cranfield-tiny data_dir=PATH"
)
RECIPE_COMMAND = "recipe"


class RecipeGroup(TyperGroup):
    """Takes a name that is no command for the name of a recipe."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - as in the base class
        """The command, and what is left of the arguments."""
        if args and args[0] not in self.commands:
            args = [RECIPE_COMMAND, *args]
        return super().resolve_command(ctx, args)


def retrieval(
    path: IndexPath,
    queries: Annotated[Path, typer.Option(help="BEIR queries.jsonl.")],
    qrels: Annotated[Path, typer.Option(help="Judgements: BEIR tsv or TREC.")],
    run: Annotated[Path | None, typer.Option(help="Write the rankings as a TREC run.")] = None,
    encoder: Encoder = None,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Measure nDCG@10, recall@10, recall@100 and MRR@10 on judged queries."""
    with reporting(as_json=as_json, verbosity=verbosity(verbose, quiet)):
        from ragkit.evaluation.judgements import read_qrels, read_queries
        from ragkit.evaluation.retrieval import evaluate_index
        from ragkit.evaluation.trec import write_run
        from ragkit.retrieval.retriever import Retriever

        texts, judgements = read_queries(queries), read_qrels(qrels)
        with Retriever.open(path, encoder=encoder, device=device, threads=threads) as retriever:
            report = evaluate_index(retriever, texts, judgements)
        if run is not None:
            write_run(run, report.rankings)
        _show(report, title=str(path), as_json=as_json)


def recipe(
    name: Annotated[str, typer.Argument(help="Path of a recipe, or its name.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE")] = None,
    as_json: AsJson = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Build what a recipe describes, and measure it."""
    with reporting(as_json=as_json, verbosity=verbosity(verbose, quiet), resumable=True):
        from ragkit.config import find_recipe, require_kind

        path = find_recipe(name)
        runners = {"perplexity": _run_perplexity, "retrieval": _run_retrieval}
        run = runners[require_kind(path, runners)]
        run(path, overrides or [], title=name, as_json=as_json)


def _run_retrieval(path: Path, overrides: list[str], *, title: str, as_json: bool) -> None:
    from ragkit.config import load_config
    from ragkit.evaluation.retrieval_recipe import RetrievalRecipe, run_retrieval

    _show(
        run_retrieval(load_config(RetrievalRecipe, path, overrides)), title=title, as_json=as_json
    )


def _run_perplexity(path: Path, overrides: list[str], *, title: str, as_json: bool) -> None:
    from ragkit.config import load_config
    from ragkit.evaluation.perplexity_recipe import PerplexityRecipe, run_perplexity

    report = run_perplexity(load_config(PerplexityRecipe, path, overrides))
    show_perplexity(report, title=title, as_json=as_json)


def _show(report: "RetrievalReport", *, title: str, as_json: bool) -> None:
    from ragkit.evaluation.retrieval import to_json, to_table

    if as_json:
        print_json(to_json(report))
    else:
        Console().print(to_table(report, title=title))
