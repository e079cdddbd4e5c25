"""`ragkit index search|info|check|verify`."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

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
from ragkit.cli.running import plain, print_json, print_table, reporting
from ragkit.errors import IndexCorruptError
from ragkit.retrieval.report import describe
from ragkit.retrieval.units import format_size

SEARCH_EXAMPLE = 'Example: ragkit index search my.index "who designed the bridge?" -k 5'
SHOWN_CHARACTERS = 300


def search(
    path: IndexPath,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    k: Annotated[int, typer.Option("-k", help="Number of hits.")] = 10,
    min_score: Annotated[float | None, typer.Option(help="Leave out worse hits.")] = None,
    exact: Annotated[bool, typer.Option(help="Compare with every passage.")] = False,
    encoder: Encoder = None,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Find the passages that match a query best."""
    with reporting(as_json=as_json, verbosity=verbosity(verbose, quiet)):
        from ragkit.retrieval.retriever import Retriever

        with Retriever.open(path, encoder=encoder, device=device, threads=threads) as retriever:
            started = time.perf_counter()
            hits = retriever.search(query, k, min_score=min_score, exact=exact)
            found = [hit.as_dict() for hit in hits]
            took_ms = 1e3 * (time.perf_counter() - started)
        if as_json:
            print_json({"schema": "ragkit.search/1", "hits": found, "took_ms": round(took_ms, 3)})
            return
        table = Table("rank", "score", "id", "passage", title=plain(query), show_lines=True)
        for hit in hits:
            title = (f"{hit.title}\n", "bold") if hit.title else ""
            passage = Text.assemble(title, _head(hit.text))
            table.add_row(str(hit.rank), f"{hit.score:.4f}", plain(hit.id), passage)
        Console().print(table)


def info(path: IndexPath, as_json: AsJson = False) -> None:
    """Say what an index holds and how it was built."""
    with reporting(as_json=as_json):
        from ragkit.index.layout import Layout
        from ragkit.index.manifest import read_current

        manifest = read_current(Layout(path))
        facts = describe(path, manifest)
        details = dataclasses.asdict(manifest)
        if as_json:
            names = ("format_version", "created", "model", "settings", "counts", "quality", "build")
            more = {name: details[name] for name in (*names, "versions", "sources")}
            print_json({"schema": "ragkit.info/1", **facts, **more})
            return
        shown = {**facts, "size_bytes": format_size(facts["size_bytes"])}
        for name in ("created", "counts", "quality", "model", "settings"):
            value = details[name]
            shown[name] = value if isinstance(value, str) else json.dumps(value, indent=1)
        print_table(str(path), shown.items())


def check(
    path: IndexPath,
    num_queries: Annotated[int, typer.Option(help="Queries made from passages.")] = 200,
    k: Annotated[int, typer.Option("-k", help="Hits per query.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the choice of passages.")] = 0,
    encoder: Encoder = None,
    device: Device = "auto",
    as_json: AsJson = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Measure recall against exact search, and latency, now and here."""
    with reporting(as_json=as_json, verbosity=verbosity(verbose, quiet)):
        from ragkit.retrieval.retriever import Retriever

        with Retriever.open(path, encoder=encoder, device=device) as retriever:
            quality = retriever.check(num_queries, k=k, seed=seed)
        if as_json:
            print_json({"schema": "ragkit.check/1", **quality})
            return
        shown = (
            (name, f"{value:.4g}" if isinstance(value, float) else value)
            for name, value in quality.items()
        )
        print_table(f"{path}: recall check", shown)


def verify(
    path: IndexPath, as_json: AsJson = False, verbose: Verbose = 0, quiet: Quiet = False
) -> None:
    """Read every byte and compare it with what was published."""
    with reporting(as_json=as_json, verbosity=verbosity(verbose, quiet)):
        from ragkit.index.verify import verify_index

        faults = verify_index(Path(path))
        if as_json:
            listed = [dataclasses.asdict(fault) for fault in faults]
            print_json({"schema": "ragkit.verify/1", "ok": not faults, "faults": listed})
        else:
            for fault in faults:
                Console(stderr=True).print(f"{fault.file}: {fault.reason}", markup=False)
            Console().print("damaged" if faults else "every byte is as it was published")
        if faults:
            raise typer.Exit(IndexCorruptError.exit_code)


def _head(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
