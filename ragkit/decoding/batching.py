"""Runs prompts through one model: in batches of similar length, results in the given order."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from transformers import LogitsProcessor, PreTrainedModel, PreTrainedTokenizerBase

from ragkit.console import progress
from ragkit.decoding.loop import decode
from ragkit.decoding.options import GenerationOptions, check_batch_size
from ragkit.decoding.prefix import ModelPrefix, Prefix
from ragkit.decoding.prompts import check_tokens, num_new_tokens
from ragkit.decoding.sampling import Chooser
from ragkit.decoding.stopping import Continuation, FinishReason, stop_tokens
from ragkit.errors import ConfigError
from ragkit.models.memory import memory_errors

BATCHES_PER_SORT = 4
"""Batches whose prompts are sorted together: more waste less on padding, but keep more results
waiting for an earlier one, which an interrupt loses."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What a prompt was continued with.

    Args:
        text: Without special tokens and without the stop string.
        tokens: All that were generated, with the one that ended the text.
        finish_reason: `stop` at a stop token or string, `length` after `max_new_tokens`.
        log_probs: What the model gave each of `tokens` before any processor, in nats; the last
            bits vary with the batch, so that they count for no comparison.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    num_prompt_tokens: int
    log_probs: tuple[float, ...] = field(compare=False)

    @property
    def num_tokens(self) -> int:
        """How many tokens were generated."""
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt to continue.

    Args:
        tokens: Token ids of the prompt.
        sample: How many equal prompts came before it; equal ones draw different texts.
    """

    tokens: tuple[int, ...]
    sample: int = 0

    @property
    def num_positions(self) -> int:
        """Positions of the model that the prompt takes."""
        return len(self.tokens)


R = TypeVar("R", bound=Request)


def number_samples(prompts: Sequence[Sequence[int]]) -> list[Request]:
    """The prompts, each with its number among its equals."""
    seen: Counter[tuple[int, ...]] = Counter()
    requests = []
    for tokens in map(tuple, prompts):
        requests.append(Request(tokens, seen[tokens]))
        seen[tokens] += 1
    return requests


class Generator(Generic[R]):
    """Continues prompts with one model and one set of options.

    Args:
        tokenizer: Without one no text is made, only tokens.
        open_prefix: Begins to read a batch; if not given, the model reads the tokens of each.
        processors: Your own, of transformers' kind; they see the tokens so far `[batch, seq]` and
            the logits `[batch, vocab]`, after the repetition penalty and before the temperature.
            They serve many batches, so they must hold nothing per row.

    Raises:
        ConfigError: There are stop strings but no tokenizer.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None,
        *,
        options: GenerationOptions,
        open_prefix: Callable[[Sequence[R]], Prefix] | None = None,
        processors: Sequence[LogitsProcessor] = (),
    ) -> None:
        if options.stop and tokenizer is None:
            raise ConfigError("stop strings need a tokenizer: pass one, or leave `stop` out")
        self._model, self._tokenizer = model, tokenizer
        self._options, self._processors = options, processors
        self._open_prefix = open_prefix or self._read_tokens
        self._stop_tokens = stop_tokens(model, tokenizer, stop=options.stop)

    def check(self, prompt: Sequence[int]) -> None:
        """Pass if the prompt, and what may follow, fits the model.

        Raises:
            ConfigError: It is empty or too long, or holds what is no token of the model.
        """
        if not prompt:
            raise ConfigError("a prompt needs at least one token, got none")
        check_tokens(self._model, prompt)
        self._num_new_tokens(len(prompt))

    def steps(self, batch: Sequence[R]) -> Iterator[list[Continuation]]:
        """The rows of one batch after each token: the same objects each time, only longer.

        Raises:
            ConfigError: The model is in training mode, or takes no cache.
            StorageError: The device has too little memory.
            CheckpointError: The model's logits are not numbers.
        """
        prompts = [request.tokens for request in batch]
        limits = [self._num_new_tokens(request.num_positions) for request in batch]
        rows = [self._new_row(limit) for limit in limits]
        chooser = Chooser(
            prompts,
            options=self._options,
            samples=[request.sample for request in batch],
            num_steps=max(limits),
            device=self._model.device,
            processors=self._processors,
        )
        prefix = self._open_prefix(batch)
        mend = (
            f"{len(batch)} prompts of up to {max(map(len, prompts))} tokens run at once: lower "
            "batch_size or max_new_tokens"
        )
        with memory_errors(self._model.device, mend=mend):
            for _ in decode(prefix, chooser=chooser, continuations=rows):
                yield rows

    def run(self, requests: Sequence[R], *, batch_size: int) -> Iterator[Generation]:
        """One generation per request, in their order.

        Raises:
            ConfigError: `batch_size` is below 1, or as for `steps`.
            StorageError: As for `steps`.
            CheckpointError: As for `steps`.
        """
        check_batch_size(batch_size)
        size = batch_size * BATCHES_PER_SORT
        with progress("generating", total=len(requests)) as bar:
            for start in range(0, len(requests), size):
                for generation in self._run_sorted(requests[start : start + size], batch_size):
                    bar.advance(tokens=generation.num_tokens)
                    yield generation

    def _run_sorted(self, requests: Sequence[R], batch_size: int) -> Iterator[Generation]:
        """One generation per request, in their order, each as soon as all before it are there."""
        order = sorted(range(len(requests)), key=lambda i: len(requests[i].tokens))
        batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        done: dict[int, Generation] = {}
        num_given = 0
        for numbers in sorted(batches, key=min):  # the first results are wanted first
            batch = [requests[number] for number in numbers]
            done.update(zip(numbers, self._run_batch(batch), strict=True))
            while num_given in done:
                yield done.pop(num_given)
                num_given += 1

    def _run_batch(self, batch: Sequence[R]) -> list[Generation]:
        *_, rows = self.steps(batch)
        return [finished(row, request) for row, request in zip(rows, batch, strict=True)]

    def _read_tokens(self, batch: Sequence[R]) -> Prefix:
        return ModelPrefix(self._model, [request.tokens for request in batch])

    def _num_new_tokens(self, num_prompt_tokens: int) -> int:
        return num_new_tokens(
            self._model,
            num_prompt_tokens=num_prompt_tokens,
            max_new_tokens=self._options.max_new_tokens,
        )

    def _new_row(self, max_new_tokens: int) -> Continuation:
        return Continuation(
            max_new_tokens=max_new_tokens,
            stop_tokens=self._stop_tokens,
            tokenizer=self._tokenizer,
            stop=self._options.stop,
        )


def finished(row: Continuation, request: Request) -> Generation:
    """The generation that `row` has become.

    Raises:
        ConfigError: It is not finished.
    """
    if row.finish_reason is None:
        raise ConfigError("the text is not finished: read the pieces to their end first")
    return Generation(
        row.text,
        tuple(row.tokens),
        row.finish_reason,
        num_prompt_tokens=len(request.tokens),
        log_probs=tuple(row.log_probs),
    )
