"""Text from prompts: all at once, or piece by piece."""

from collections.abc import Iterator, Sequence
from typing import Generic

from transformers import LogitsProcessor, PreTrainedModel, PreTrainedTokenizerBase

from ragkit.decoding.batching import Generation, Generator, R, Request, finished, number_samples
from ragkit.decoding.options import GenerationOptions
from ragkit.decoding.prompts import Prompt, encode_prompt
from ragkit.decoding.stopping import Continuation
from ragkit.errors import ConfigError

BATCH_SIZE = 8


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    options: GenerationOptions | None = None,
    chat: bool = False,
    system: str | None = None,
    batch_size: int = BATCH_SIZE,
    processors: Sequence[LogitsProcessor] = (),
) -> list[Generation]:
    """What each prompt is continued with, in order.

    Args:
        model: Any causal language model, in evaluation mode; transformers' or ours.
        prompts: Texts to continue, or conversations to answer.
        chat: Whether texts are what the user says in a conversation.
        system: What the system says first in each conversation.
        batch_size: Prompts that run at once.
        processors: Your own, of transformers' kind, that hold nothing per row.

    Raises:
        ConfigError: A prompt and `max_new_tokens` exceed the model's context, the tokenizer has no
            chat template, the model is in training mode, or an option makes no sense.
        DataError: A prompt is empty where there is no BOS token, or a conversation is malformed.
        StorageError: The device has too little memory.
        CheckpointError: The model's logits are not numbers.
    """
    if isinstance(prompts, str):
        raise ConfigError("prompts must be a sequence, got one string: write [prompt]")
    ids = [encode_prompt(tokenizer, prompt, chat=chat, system=system) for prompt in prompts]
    generator = Generator[Request](
        model, tokenizer, options=options or GenerationOptions(), processors=processors
    )
    return _run(generator, ids, batch_size)


def generate_tokens(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    options: GenerationOptions | None = None,
    batch_size: int = BATCH_SIZE,
    processors: Sequence[LogitsProcessor] = (),
) -> list[Generation]:
    """What each prompt of token ids is continued with: as `generate`, but no text is made."""
    generator = Generator[Request](
        model, None, options=options or GenerationOptions(), processors=processors
    )
    return _run(generator, prompts, batch_size)


def stream(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    *,
    options: GenerationOptions | None = None,
    chat: bool = False,
    system: str | None = None,
    processors: Sequence[LogitsProcessor] = (),
) -> "TextStream[Request]":
    """The pieces of the text that continues `prompt`, as they come; arguments as for `generate`."""
    request = Request(tuple(encode_prompt(tokenizer, prompt, chat=chat, system=system)))
    generator = Generator[Request](
        model, tokenizer, options=options or GenerationOptions(), processors=processors
    )
    generator.check(request.tokens)
    return TextStream(generator, request)


class TextStream(Generic[R]):
    """The text of one prompt, piece by piece: complete characters only, and no stop string."""

    def __init__(self, generator: Generator[R], request: R) -> None:
        self._generator, self._request = generator, request
        self._row: Continuation | None = None

    def __iter__(self) -> Iterator[str]:
        """The pieces; generates anew when asked again."""
        num_shown = 0
        for [row] in self._generator.steps([self._request]):
            self._row = row
            piece = row.text[num_shown:]
            num_shown = len(row.text)
            if piece:
                yield piece

    @property
    def generation(self) -> Generation:
        """All of it, once the pieces have been read.

        Raises:
            ConfigError: They have not.
        """
        if self._row is None:
            raise ConfigError("nothing was generated yet: read the pieces to their end first")
        return finished(self._row, self._request)


def _run(
    generator: Generator[Request], prompts: Sequence[Sequence[int]], batch_size: int
) -> list[Generation]:
    for prompt in prompts:
        generator.check(prompt)
    return list(generator.run(number_samples(prompts), batch_size=batch_size))
