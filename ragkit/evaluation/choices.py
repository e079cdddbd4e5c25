"""Multiple choice by likelihood, with the tokens and the metrics of lm-evaluation-harness.

The score functions of RA-DIT (Lin et al. 2023, arXiv:2310.01352, appendix B) are here by their
names in the harness: `acc` is its `nll`, `acc_norm` its `nll_char`; `acc_token` is `nll_token` and
`acc_compl` `nll_compl`.
"""

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
        acc_token: The same of the log-likelihood per token.
        acc_compl: The same of what the context adds to the log-likelihood of the choice after a
            context that says nothing; `None` if that was not asked for.
    """

    log_likelihoods: NDArray[np.float64]
    acc: bool
    acc_norm: bool
    acc_bytes: bool
    acc_token: bool
    acc_compl: bool | None = None


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

    @property
    def acc_token(self) -> float:
        """Share of items of which the choice likeliest per token is right."""
        return fmean(result.acc_token for result in self.results)

    @property
    def acc_compl(self) -> float | None:
        """Share of items of which the choice that the context makes likelier most is right."""
        judged = [result.acc_compl for result in self.results if result.acc_compl is not None]
        return fmean(judged) if judged else None


def evaluate_choices(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Iterable[ChoiceItem],
    *,
    delimiter: str = DEFAULT_DELIMITER,
    bare_context: str | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
) -> ChoiceReport:
    """How often the right choice is the likeliest continuation of its context.

    Of equally likely choices the first one counts as chosen.

    Args:
        delimiter: Stands between context and choice, and counts for no length.
        bare_context: A context that says nothing, such as `Answer:`, for `acc_compl`; `None` leaves
            that out and scores every choice once.
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
    choices = [(item.context, delimiter + choice) for item in items for choice in item.choices]
    bare = [] if bare_context is None else [(bare_context, choice) for _, choice in choices]
    nats, num_tokens = _score(model, tokenizer, [*choices, *bare], batch_size=batch_size)
    gains = nats[: len(choices)] - nats[len(choices) :] if bare else None
    ends = np.cumsum([len(item.choices) for item in items])
    return ChoiceReport(
        [
            _judge(item, nats[part], num_tokens[part], gains=None if gains is None else gains[part])
            for item, part in zip(items, map(slice, [0, *ends[:-1]], ends), strict=True)
        ]
    )


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
    return _score(model, tokenizer, requests, batch_size=batch_size)[0]


def _score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Request],
    *,
    batch_size: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Log-likelihood and tokens of each continuation, both `[requests]`."""
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
    num_tokens = np.array([row.num_scored for row in cut], np.int64)
    places = [distinct[request] for request in requests]
    return -nats[places], num_tokens[places]


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


def _judge(
    item: ChoiceItem,
    log_likelihoods: NDArray[np.float64],
    num_tokens: NDArray[np.int64],
    *,
    gains: NDArray[np.float64] | None,
) -> ChoiceResult:
    def is_right(scores: NDArray[np.float64]) -> bool:
        return int(scores.argmax()) == item.answer

    return ChoiceResult(
        log_likelihoods,
        acc=is_right(log_likelihoods),
        acc_norm=is_right(log_likelihoods / [len(choice) for choice in item.choices]),
        acc_bytes=is_right(log_likelihoods / [len(choice.encode()) for choice in item.choices]),
        acc_token=is_right(log_likelihoods / num_tokens),
        acc_compl=None if gains is None else is_right(gains),
    )


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
