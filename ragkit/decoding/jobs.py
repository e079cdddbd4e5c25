"""A file of prompts, from its rows to the lines of its results."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ragkit.data.rejects import Rejects
from ragkit.decoding.batching import Generator, Request, number_samples
from ragkit.decoding.options import GenerationOptions
from ragkit.decoding.prompt_file import PromptRow
from ragkit.decoding.prompts import encode_prompt
from ragkit.decoding.result_file import fingerprint, line_head, to_line
from ragkit.errors import ConfigError, DataError
from ragkit.storage import hash_file, storage_errors

_MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "*.safetensors",
)


@dataclass(frozen=True, slots=True)
class Job:
    """Prompts of a file, checked and ready to run.

    Args:
        heads: What the line of each result begins with.
    """

    generator: Generator[Request]
    rows: Sequence[PromptRow]
    requests: Sequence[Request]
    heads: Sequence[str]

    def lines(self, *, batch_size: int, start: int = 0) -> Iterator[str]:
        """One line of JSON per row from the row `start` on, in order.

        Raises:
            ConfigError: `batch_size` is below 1, or the model cannot generate as it is.
            StorageError: The device has too little memory.
            CheckpointError: The model's logits are not numbers.
        """
        generations = self.generator.run(self.requests[start:], batch_size=batch_size)
        for head, generation in zip(self.heads[start:], generations, strict=True):
            yield to_line(generation, head=head)


def prepare_job(
    rows: Sequence[PromptRow],
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    checkpoint: Path,
    options: GenerationOptions,
    rejects: Rejects,
    chat: bool = False,
    system: str | None = None,
) -> Job:
    """The rows that the model can take, as a job.

    Args:
        checkpoint: The folder that the model was loaded from: results go on only with the same.
        rejects: Takes the rows that are malformed, or too long for the model.
        chat: Whether texts are what the user says in a conversation.
        system: What the system says first in each conversation.

    Raises:
        ConfigError: The tokenizer has no chat template, or the system prompt no conversation.
        StorageError: The checkpoint cannot be read.
    """
    generator = Generator[Request](model, tokenizer, options=options)
    kept, prompts = [], []
    for row in rows:
        try:
            ids = encode_prompt(tokenizer, row.prompt, chat=chat, system=system)
        except DataError as error:
            rejects.refuse(row.source, str(error), code="malformed")
            continue
        try:
            generator.check(ids)
        except ConfigError as error:
            rejects.refuse(row.source, str(error), code="too_long")
            continue
        kept.append(row)
        prompts.append(ids)
    requests = number_samples(prompts)
    digest = digest_model(checkpoint, model.dtype)
    marks = [fingerprint(one, model=digest, options=options) for one in requests]
    heads = [
        line_head(number=row.id, fingerprint=mark) for row, mark in zip(kept, marks, strict=True)
    ]
    return Job(generator, kept, requests, heads)


def digest_model(checkpoint: Path, dtype: torch.dtype) -> str:
    """What stands for a model: equal for the same weights, end tokens, tokenizer and dtype.

    Raises:
        StorageError: A file cannot be read.
    """
    files = [path for pattern in _MODEL_FILES for path in sorted(checkpoint.glob(pattern))]
    with storage_errors(checkpoint, action="read"):
        return " ".join([str(dtype), *map(hash_file, files)])
