"""How likely a model finds given continuations of given texts, reading equal beginnings once.

Only the positions that predict a target are projected to the vocabulary, and the softmax is fp32.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf, isqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from ragkit.console import progress
from ragkit.decoding.prefix_trees import (
    TargetPair,
    Tree,
    TreeBatch,
    batch_trees,
    lay_out,
    plan_trees,
)
from ragkit.errors import ConfigError, DataError
from ragkit.models.inference import evaluating
from ragkit.models.interface import forward_parameters, max_context_length
from ragkit.nn.loss import token_nats

__all__ = ["TargetPair", "TargetScorer", "TargetScores", "score_targets"]

CPU_BATCH_TOKENS, GPU_BATCH_TOKENS = 1024, 16384
"""More leave a CPU's caches; a GPU needs more to be busy."""
_MASKED_ATTENTION = ("sdpa", "eager")
"""Attention implementations that take a mask of any pattern."""
_PROBE_PREFIX, _PROBE_BRANCHES = 5, (4, 7, 3)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TargetScores:
    """How likely targets are, in the order of their pairs.

    Args:
        sum_logprob: Log-likelihood of the whole target in nats, `[pairs]`; not finite where the
            model's logits are not.
        num_tokens: Tokens of the target, `[pairs]`.
    """

    sum_logprob: NDArray[np.float32]
    num_tokens: NDArray[np.int64]


def score_targets(
    model: PreTrainedModel,
    pairs: Sequence[TargetPair],
    *,
    batch_tokens: int | None = None,
    description: str = "score targets",
) -> TargetScores:
    """The log-likelihood of each pair's target after its prefix and suffix.

    Args:
        batch_tokens: Most tokens of a forward pass, padding included; a longer text comes alone.
            `None` for what suits the device.
        description: What the progress bar is called.

    Raises:
        ConfigError: `batch_tokens` is below 1, or the model has no output projection.
        DataError: A pair has no target, nothing before it, or more than the model reads.
        StorageError: The device runs out of memory.
    """
    sums = np.zeros(len(pairs), np.float32)
    scorer = TargetScorer(model, batch_tokens=batch_tokens)
    with progress(description, total=len(pairs)) as bar:
        for numbers, found in scorer.batches(pairs):
            sums[numbers] = found
            bar.advance(len(numbers))
    return TargetScores(sums, np.array([len(pair.target) for pair in pairs], np.int64))


class TargetScorer:
    """Scores targets with one model.

    Args:
        batch_tokens: As in `score_targets`.

    Raises:
        ConfigError: `batch_tokens` is below 1, or the model has no output projection.
    """

    def __init__(self, model: PreTrainedModel, *, batch_tokens: int | None = None) -> None:
        if batch_tokens is None:
            on_cpu = model.device.type == "cpu"
            batch_tokens = CPU_BATCH_TOKENS if on_cpu else GPU_BATCH_TOKENS
        if batch_tokens < 1:
            raise ConfigError(f"batch_tokens must be 1 or more, got {batch_tokens}")
        self._model, self._batch_tokens = model, batch_tokens
        self._head = _output_projection(model)
        self._max_length = max_context_length(model) or inf
        self._window = _shortest_window(model)
        obstacle = _obstacle(model) or self._probe()
        if obstacle:
            logger.warning("equal beginnings are read again for each text, as %s", obstacle)
        self.shares_prefixes = not obstacle

    def batches(
        self, pairs: Sequence[TargetPair]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Numbers and log-likelihoods of some pairs at a time, each `[some]`, until all are done.

        Raises:
            DataError, StorageError: As for `score_targets`.
        """
        for number, pair in enumerate(pairs):
            self._check(pair, number)
        longest_text = max((pair.num_read for pair in pairs), default=0)
        shares = self.shares_prefixes and longest_text <= self._window
        trees = plan_trees(pairs, longest=self._longest_row if shares else lambda _: 0)
        for batch in batch_trees(trees, batch_tokens=self._batch_tokens):
            with evaluating(self._model, mend="use a smaller batch_tokens"):
                scores = self._score(batch, pairs)
            yield scores  # between two batches the model is as the caller left it

    def _check(self, pair: TargetPair, number: int) -> None:
        if not pair.target or not pair.prefix + pair.suffix:
            raise DataError(
                f"pair {number} has {len(pair.target)} target tokens after "
                f"{len(pair.prefix) + len(pair.suffix)} others: expected at least one of each; "
                "leave it out"
            )
        if pair.num_read > self._max_length:
            raise DataError(
                f"pair {number} has {pair.num_read} tokens to read, the model reads at most "
                f"{self._max_length}: cut its prefix or suffix"
            )

    def _longest_row(self, prefix: int) -> int:
        """Tokens of a row from which on it pays to read the prefix again in another row.

        A row of n tokens costs about n (12 d + 4 n) in units of the width d (and attention runs at
        half the speed of the other products), which is least per token of a branch at this n.
        """
        width = self._model.config.get_text_config().hidden_size
        best = prefix + isqrt(prefix * (prefix + 3 * width // 2))
        return int(min(best, self._batch_tokens, self._max_length))

    def _score(
        self, trees: Sequence[Tree], pairs: Sequence[TargetPair]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        batch = lay_out(trees, pairs)
        nats = self._nats(batch).double()  # [targets]
        numbers, owners = batch.owners.unique(return_inverse=True)
        sums = nats.new_zeros(len(numbers)).index_add_(0, owners.to(nats.device), -nats)
        return numbers.numpy(), sums.float().cpu().numpy()

    def _nats(self, batch: TreeBatch) -> Tensor:
        """Negative log-likelihood of each target token, fp32 `[targets]`."""
        device = self._model.device
        inputs = {"input_ids": batch.input_ids.to(device)}
        mask = batch.attention_mask(self._model.dtype, device)
        if mask is not None:
            inputs |= {"attention_mask": mask, "position_ids": batch.position_ids.to(device)}
        with _projected_only(self._head, batch.places.to(device)):
            logits = self._model(**inputs, use_cache=False).logits  # [1, targets, vocab]
        return token_nats(logits, batch.targets.to(device)[None])[0]

    def _probe(self) -> str:
        """Why texts that share a row do not read as they do alone; empty if they do.

        What a forward takes does not tell: a recurrent layer, a router that fills experts, or a
        bias by distance may let one text change another.
        """
        pairs = _probe_pairs(self._model)
        together = plan_trees(pairs, longest=lambda _: 1 << 20)
        alone = plan_trees(pairs, longest=lambda _: 0)
        with evaluating(self._model, mend="use a smaller model or device memory"):
            shared, single = (self._nats(lay_out(trees, pairs)) for trees in (together, alone))
        difference = float((shared - single).abs().mean())
        # In bfloat16 rounding came to 0.08 nats per token, where wrong positions came to 0.5.
        if difference <= 3 * torch.finfo(self._model.dtype).eps ** 0.5:
            return ""
        return f"they change one another in this model (by {difference:.2g} nats per token)"


def _output_projection(model: PreTrainedModel) -> nn.Module:
    head = model.get_output_embeddings()
    if head is None:
        raise ConfigError(
            f"{type(model).__name__} has no output projection, so that it predicts no tokens: use "
            "a causal language model"
        )
    return head


@contextmanager
def _projected_only(head: nn.Module, places: Tensor) -> Iterator[None]:
    """Let `head` see nothing but the hidden states at `places` `[2, targets]`, as one row.

    Unlike `logits_to_keep` this chooses other positions in each row.
    """
    rows, positions = places
    hook = head.register_forward_pre_hook(lambda _, args: (args[0][rows, positions][None],))
    try:
        yield
    finally:
        hook.remove()


def _obstacle(model: PreTrainedModel) -> str:
    """What in the model's interface keeps texts from sharing a row; empty if nothing does."""
    missing = {"attention_mask", "position_ids"} - forward_parameters(model)
    if missing:
        return f"{type(model).__name__} takes no {' and no '.join(sorted(missing))}"
    attention = model.config.get_text_config()._attn_implementation
    if attention not in _MASKED_ATTENTION:
        return f"attention {attention!r} takes no such mask: load with attn_implementation='sdpa'"
    return ""


def _shortest_window(model: PreTrainedModel) -> float:
    """Length up to which every layer reads the whole text; a mask of ours knows no window."""
    config = model.config.get_text_config()
    windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min((window for window in windows if window), default=inf)


def _probe_pairs(model: PreTrainedModel) -> list[TargetPair]:
    """Texts of random tokens that begin alike."""
    generator = torch.Generator().manual_seed(0)
    vocab = model.config.get_text_config().vocab_size

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(vocab, (count,), generator=generator).tolist())

    prefix = tokens(_PROBE_PREFIX)
    return [TargetPair(prefix, tokens(1), tokens(count)) for count in _PROBE_BRANCHES]
