"""Multiple choice by likelihood, with the tokens and the metrics of lm-evaluation-harness."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ragkit.errors import ConfigError, DataError
from ragkit.evaluation.scoring import Row, score_tokens
from ragkit.models.interface import max_context_length

DEFAULT_BATCH_SIZE = 16
DEFAULT_DELIMITER = " "

Request = tuple[str, str]
"""A context and its continuation."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """A question with the answers to choose from.

    Args:
        context: What stands before each choice, without the delimiter.
        answer: Position of the right choice.
    """

    context: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True, slots=True)
class ChoiceResult:
    """What the model made of one question.

    Args:
        log_likelihoods: Sum over the tokens of each choice, in nats, `[choices]`.
        acc: Whether the likeliest choice is right.
        acc_norm: The same of the log-likelihood per character of the choice.
        acc_bytes: The same of the log-likelihood per UTF-8 byte; equal for ASCII.
    """

    log_likelihoods: NDArray[np.float64]
    acc: bool
    acc_norm: bool
    acc_bytes: bool


@dataclass(frozen=True, slots=True)
class ChoiceReport:
    """How often a model chose right.

    Args:
        results: One per item, in order.
    """

    results: Sequence[ChoiceResult]

    @property
    def acc(self) -> float:
        """Share of items of which the likeliest choice is right."""
        return fmean(result.acc for result in self.results)

    @property
    def acc_norm(self) -> float:
        """Share of items of which the choice likeliest per character is right."""
        return fmean(result.acc_norm for result in self.results)

    @property
    def acc_bytes(self) -> float:
        """Share of items of which the choice likeliest per UTF-8 byte is right."""
        return fmean(result.acc_bytes for result in self.results)


def evaluate_choices(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Iterable[ChoiceItem],
    *,
    delimiter: str = DEFAULT_DELIMITER,
    batch_size: int = DEFAULT_BATCH_SIZE,
) -> ChoiceReport:
    """How often the right choice is the likeliest continuation of its context.

    Of equally likely choices the first one counts as chosen.

    Args:
        delimiter: Stands between context and choice, and counts for no length.
        batch_size: Choices of one forward pass.

    Raises:
        CheckpointError: The model gives no finite likelihood.
        ConfigError: `batch_size` is below 1, or a context is empty and the tokenizer has no token
            that begins a text.
        DataError: There is no item, an item is malformed, or a choice has no token or more than
            the model reads.
        StorageError: The device runs out of memory.
    """
    items = list(items)
    for item in items:
        _check(item)
    if not items:
        raise DataError("no item to evaluate: expected at least one question with its choices")
    requests = [(item.context, delimiter + choice) for item in items for choice in item.choices]
    scores = iter(score_continuations(model, tokenizer, requests, batch_size=batch_size))
    results = [_judge(item, np.array([next(scores) for _ in item.choices])) for item in items]
    return ChoiceReport(results)


def score_continuations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Request],
    *,
    batch_size: int = DEFAULT_BATCH_SIZE,
) -> NDArray[np.float64]:
    """Log-likelihood of each continuation given its context, in nats, `[requests]`.

    Equal requests are scored once, so that they tie exactly. What is longer than the model's
    context loses its first tokens, and the log says how many requests did.

    Raises:
        CheckpointError, ConfigError, DataError, StorageError: As for `evaluate_choices`.
    """
    limit = max_context_length(model)
    distinct = {request: place for place, request in enumerate(dict.fromkeys(requests))}
    rows = [_encode(tokenizer, *request) for request in distinct]
    cut = [_keep_end(row, limit) for row in rows]
    if too_long := sum(new is not old for new, old in zip(cut, rows, strict=True)):
        logger.warning(
            "%d of %d requests exceed the %s tokens that the model reads: the first "
            "tokens of their contexts are left out",
            too_long,
            len(rows),
            limit,
        )
    nats = score_tokens(model, cut, batch_size=batch_size, description="score choices")
    return -nats[[distinct[request] for request in requests]]


def _check(item: ChoiceItem) -> None:
    if len(item.choices) < 2 or "" in item.choices:
        raise DataError(
            f"expected two or more choices that are not empty, found {item.choices!r} for "
            f"{item.context[-60:]!r}"
        )
    if not 0 <= item.answer < len(item.choices):
        raise DataError(
            f"answer must be the position of a choice, 0 to {len(item.choices) - 1}, found "
            f"{item.answer} for {item.context[-60:]!r}"
        )


def _judge(item: ChoiceItem, log_likelihoods: NDArray[np.float64]) -> ChoiceResult:
    characters = np.array([len(choice) for choice in item.choices])
    num_bytes = np.array([len(choice.encode()) for choice in item.choices])
    right = [
        int(scores.argmax()) == item.answer
        for scores in (log_likelihoods, log_likelihoods / characters, log_likelihoods / num_bytes)
    ]
    return ChoiceResult(log_likelihoods, *right)


def _encode(tokenizer: PreTrainedTokenizerBase, context: str, continuation: str) -> Row:
    """The tokens of both, encoded together and split where those of the context alone end.

    White space at the end of the context goes to the continuation, as a token that begins a word
    includes the space before it.
    """
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    if stripped:
        prefix = _tokens(tokenizer, stripped)
        ids = _tokens(tokenizer, stripped + continuation)
    else:
        prefix = [_first_token(tokenizer)]
        ids = prefix + tokenizer(continuation, add_special_tokens=False).input_ids
    if len(ids) <= len(prefix):
        raise DataError(
            f"{continuation!r} adds no token to its context {context[-60:]!r}: expected a choice "
            "that does not melt into the last token before it: change the delimiter"
        )
    return Row(np.array(ids, np.int64), len(prefix))


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of `text` as the tokenizer begins and ends it, with one `bos_token` at most."""
    begun = tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token)
    return tokenizer(text, add_special_tokens=not begun, verbose=False).input_ids


def _first_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """What stands before a text without context: `bos_token`, or else `eos_token`."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ConfigError(
        "a choice without context needs a tokenizer with a bos_token or eos_token, found neither: "
        "give every item a context"
    )


def _keep_end(row: Row, limit: int | None) -> Row:
    """`row`, without the first tokens if the model reads no more than `limit`."""
    # The last token is not read.
    excess = 0 if limit is None else max(0, len(row.input_ids) - limit - 1)
    if excess >= row.first:
        raise DataError(
            f"a choice has {row.num_scored} tokens, but the model reads {limit}: shorten it"
        )
    return Row(row.input_ids[excess:], row.first - excess) if excess else row
