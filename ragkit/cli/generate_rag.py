"""`ragkit generate MODEL QUESTION --index INDEX`: answers from the passages of an index."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash
from rich.console import Console

from ragkit.cli.running import plain, print_json
from ragkit.config import adapter
from ragkit.data.rejects import Rejects
from ragkit.decoding.options import GenerationOptions
from ragkit.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ragkit.decoding.prompt_file import PromptRow
    from ragkit.rag.answers import Answer, CitedPassage
    from ragkit.rag.pipeline import RagPipeline
    from ragkit.retrieval.retriever import Retriever

    Loader = Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]]

SCHEMA = "ragkit.answer/1"
BATCHES_AT_ONCE = 4
"""Batches whose answers are made together, and which an interrupt loses together."""
SHOWN_CHARACTERS = 80


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Where passages come from, and how they are combined.

    Args:
        settings: Of `ragkit.RagPipeline`, where they are not its defaults.
    """

    index: Path
    encoder: str | None
    query_encoder: str | None
    settings: Mapping[str, Any]

    def open(self) -> "Retriever":
        """The retriever; opened before a model is loaded, which takes longer."""
        from ragkit.retrieval.retriever import Retriever

        return Retriever.open(self.index, encoder=self.encoder, query_encoder=self.query_encoder)

    def pipeline(
        self, retriever: "Retriever", load: "Loader", options: GenerationOptions
    ) -> "RagPipeline":
        """What answers questions with the model that `load` gives."""
        from ragkit.rag.pipeline import RagPipeline

        return RagPipeline(retriever, load(), options=options, **self.settings)


def pick_retrieval(
    index: Path | None, flags: Mapping[str, Any], *, is_chat: bool
) -> Retrieval | None:
    """What the flags ask for; `None` without an index.

    Args:
        flags: What belongs to an index, by the names that the flags have in Python.
        is_chat: Whether a chat template or a system prompt was asked for.

    Raises:
        ConfigError: A flag needs an index, or does not go with one, or names no mode.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    if index is None:
        if given:
            names = ", ".join(_flag(name) for name in given)
            raise ConfigError(f"{names} needs an index to find passages in: add --index INDEX")
        return None
    if is_chat:
        raise ConfigError(
            "questions to an index have a prompt template of their own: leave --chat and --system "
            "out"
        )
    from ragkit.rag.modes import check_mode

    if "mode" in given:
        check_mode(given["mode"])
    return Retrieval(
        index=index,
        encoder=given.pop("encoder", None),
        query_encoder=given.pop("query_encoder", None),
        settings=given,
    )


def answer_prompt(
    retrieval: Retrieval,
    question: str,
    options: GenerationOptions,
    *,
    load: "Loader",
    as_json: bool,
    cite: bool,
    show: Callable[[Iterable[str]], None],
) -> None:
    """Answer one question.

    Args:
        load: Gives the model and its tokenizer.
        cite: Whether to list the passages on stderr.
        show: Writes the pieces of the text to stdout.
    """
    stream = retrieval.pipeline(retrieval.open(), load, options).stream(question)
    if as_json:
        list(stream)
        print_json({"schema": SCHEMA, **_facts(stream.answer)})
        return
    show(stream)
    if cite:
        _list_passages(stream.passages)


@dataclass(frozen=True, slots=True)
class Questions:
    """Questions of a file, checked and ready to be answered.

    Args:
        heads: What the line of each answer begins with.
    """

    rag: "RagPipeline"
    rows: "Sequence[PromptRow]"
    heads: Sequence[str]

    def lines(self, *, batch_size: int, start: int = 0) -> Iterator[str]:
        """One line of JSON per row from the row `start` on, in order."""
        size = batch_size * BATCHES_AT_ONCE
        for begin in range(start, len(self.rows), size):
            questions = [str(row.prompt) for row in self.rows[begin : begin + size]]
            answers = self.rag.answer_batch(questions, batch_size=batch_size)
            for head, answer in zip(self.heads[begin : begin + size], answers, strict=True):
                yield head + json.dumps(_facts(answer))[1:] + "\n"


def prepare_questions(
    retrieval: Retrieval,
    rows: "Sequence[PromptRow]",
    options: GenerationOptions,
    *,
    load: "Loader",
    checkpoint: Path,
    rejects: Rejects,
) -> Questions:
    """The rows that are questions, ready to be answered.

    Args:
        load: Gives the model and its tokenizer.
        checkpoint: The folder that the model is loaded from: results go on only with the same.
        rejects: Takes the rows that are conversations, or empty.
    """
    from ragkit.decoding.jobs import digest_model
    from ragkit.decoding.result_file import line_head

    kept = [row for row in rows if _is_question(row, rejects)]
    retriever = retrieval.open()
    rag = retrieval.pipeline(retriever, load, options)
    chosen = adapter(GenerationOptions).dump_python(options, mode="json")
    model = digest_model(checkpoint, rag.model.dtype)
    manifest = retriever.info()
    # The files, not the content hash, which leaves titles out.
    files = [file.xxh3 for file in manifest.files]
    searched = [files, manifest.metric, dict(manifest.ann), retriever.query_model()]
    origin = [model, *searched, dict(retrieval.settings), chosen]
    marks = [_fingerprint([*origin, row.prompt]) for row in kept]
    heads = [
        line_head(number=row.id, fingerprint=mark) for row, mark in zip(kept, marks, strict=True)
    ]
    return Questions(rag, kept, heads)


def _is_question(row: "PromptRow", rejects: Rejects) -> bool:
    if isinstance(row.prompt, str) and row.prompt.strip():
        return True
    rejects.refuse(row.source, "a question must be a text in 'prompt'", code="malformed")
    return False


def _fingerprint(content: Sequence[object]) -> str:
    """What an answer depends on, as 16 hexadecimal digits."""
    return xxhash.xxh3_64_hexdigest(json.dumps(content).encode())


def _facts(answer: "Answer") -> dict[str, Any]:
    """The answer as JSON values, in the order of `ragkit generate` without an index."""
    facts = answer.as_dict()
    names = ("text", "finish_reason", "num_prompt_tokens", "num_tokens", "log_score", "mode")
    return {name: facts[name] for name in (*names, "passages")}


def _list_passages(passages: "Sequence[CitedPassage]") -> None:
    """Show on stderr what an answer rests on, so that stdout has the answer alone."""
    console = Console(stderr=True, soft_wrap=True)
    for passage in passages:
        head = " ".join(f"{passage.title} {passage.text}".split())[:SHOWN_CHARACTERS]
        line = f"  {passage.weight:.2f}  {passage.id}  {head}"
        console.print(plain(line))


def _flag(name: str) -> str:
    return "-k" if name == "k" else f"--{name.replace('_', '-')}"
