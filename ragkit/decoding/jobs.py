"""A file of prompts, from its rows to the lines of its results."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ragkit.data.rejects import Rejects
from ragkit.decoding.files import PromptRow
from ragkit.decoding.generator import Generator, Request, number_samples
from ragkit.decoding.options import GenerationOptions
from ragkit.decoding.prompts import encode_prompt
from ragkit.decoding.results import fingerprint, to_line
from ragkit.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class Job:
    """Prompts of a file, checked and ready to run.

    Args:
        fingerprints: Of the result of each request.
    """

    generator: Generator
    rows: Sequence[PromptRow]
    requests: Sequence[Request]
    fingerprints: Sequence[str]

    def lines(self, *, batch_size: int, start: int = 0) -> Iterator[str]:
        """One line of JSON per row from the row `start` on, in order.

        Raises:
            ConfigError: `batch_size` is below 1, or the model cannot generate as it is.
            StorageError: The device has too little memory.
            CheckpointError: The model's logits are not numbers.
        """
        generations = self.generator.run(self.requests[start:], batch_size=batch_size)
        left = zip(self.rows[start:], self.fingerprints[start:], generations, strict=True)
        for row, mark, generation in left:
            yield to_line(generation, number=row.id, fingerprint=mark)


def prepare_job(
    rows: Sequence[PromptRow],
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    model_name: str,
    options: GenerationOptions,
    rejects: Rejects,
    chat: bool = False,
    system: str | None = None,
) -> Job:
    """The rows that the model can take, as a job.

    Args:
        model_name: Stands for the model in the fingerprints.
        rejects: Takes the rows that are malformed, or too long for the model.
        chat: Whether texts are what the user says in a conversation.
        system: What the system says first in each conversation.

    Raises:
        ConfigError: The tokenizer has no chat template, or the system prompt no conversation.
    """
    generator = Generator(model, tokenizer, options=options)
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
    marks = [fingerprint(one, model=model_name, options=options) for one in requests]
    return Job(generator, kept, requests, marks)
