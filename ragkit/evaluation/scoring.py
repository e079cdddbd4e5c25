"""Log-likelihoods of tokens under any causal language model, in batches and in fp32."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, inf, log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from ragkit.console import progress
from ragkit.data.collators import IGNORED_LABEL
from ragkit.errors import CheckpointError, ConfigError, DataError
from ragkit.models.inference import evaluating
from ragkit.models.interface import forward_parameters
from ragkit.nn.loss import token_nats

LARGEST_EXPONENT = 709.0
"""`exp` of more overflows a double."""
MEND = "use a smaller batch_size or context_length"
"""What to do where memory gives out."""


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens that the model reads alone, from position 0.

    Args:
        input_ids: `[seq]`; the last one is predicted but not read.
        first: First token that is scored, at least 1; those before it are context.
    """

    input_ids: NDArray[np.int64]
    first: int

    @property
    def num_scored(self) -> int:
        """Tokens that are scored."""
        return len(self.input_ids) - self.first


@dataclass(frozen=True, slots=True)
class Score:
    """How well some tokens were predicted.

    Args:
        nll_nats: Sum of the negative log-likelihoods.
        num_tokens: Tokens that were predicted.
    """

    nll_nats: float
    num_tokens: int

    @property
    def nll_per_token(self) -> float:
        """Mean negative log-likelihood, in nats: the loss that training reports."""
        return self.nll_nats / self.num_tokens

    @property
    def perplexity(self) -> float:
        """`exp` of `nll_per_token`."""
        return exp(self.nll_per_token) if self.nll_per_token < LARGEST_EXPONENT else inf

    def bits_per_byte(self, num_bytes: int) -> float:
        """Bits that the model needs for each of the `num_bytes` that these tokens spell."""
        return self.nll_nats / (log(2) * num_bytes)


def score_batch(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> Tensor:
    """Negative log-likelihood of every label, fp32 `[rows, seq]`; 0 where the label is ignored.

    Labels are unshifted: `labels[:, t]` is predicted from what stands before `t`, and the first
    column never counts. The last token is not read, so that rows may be one token longer than the
    model's context. Only the logits from the first scored column on are computed.

    Args:
        batch: `labels [rows, seq]`, and what `model` takes, each `[rows, seq]`: `input_ids` and, as
            a collator gives them, `position_ids` or `attention_mask`.
    """
    targets = batch["labels"][:, 1:].to(model.device)  # [rows, seq - 1]
    scored = (targets != IGNORED_LABEL).any(dim=0).nonzero()
    if not len(scored):
        return torch.zeros(batch["labels"].shape, device=model.device)
    kept = targets.shape[1] - int(scored[0])
    inputs = {name: x[:, :-1].to(model.device) for name, x in batch.items() if name != "labels"}
    logits = _run(model, inputs, logits_to_keep=kept)  # [rows, kept, vocab]
    nats = token_nats(logits, targets[:, -kept:])
    return F.pad(nats, (batch["labels"].shape[1] - kept, 0))


def score_rows(model: PreTrainedModel, batches: Iterable[Mapping[str, Tensor]]) -> Score:
    """How well `model` predicts the labels of batches that a collator made.

    The same tokens give the loss that training reports for them: its sum over targets, divided by
    the number of targets.

    Args:
        batches: As `score_batch` takes them.

    Raises:
        CheckpointError: The model gives no finite likelihood.
        DataError: No label is to be scored.
        StorageError: The device runs out of memory.
    """
    nll_nats, num_tokens = 0.0, 0
    with evaluating(model, mend=MEND):
        for batch in batches:
            nll_nats += float(_sum_rows(score_batch(model, batch)).sum())
            num_tokens += int((batch["labels"][:, 1:] != IGNORED_LABEL).sum())
    if not num_tokens:
        raise DataError("no token is to be scored: the batches have no label but -100")
    return Score(nll_nats, num_tokens)


def score_tokens(
    model: PreTrainedModel, rows: Sequence[Row], *, batch_size: int, description: str
) -> NDArray[np.float64]:
    """Negative log-likelihood of the scored tokens of each row, in nats, `[rows]`.

    Rows of similar length share a batch, longest first, so that one that is too large fails at
    once.

    Args:
        batch_size: Rows of one forward pass.
        description: What the progress bar is called.

    Raises:
        CheckpointError: The model gives no finite likelihood.
        ConfigError: `batch_size` is below 1.
        StorageError: The device runs out of memory.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be 1 or more, got {batch_size}")
    nats = np.zeros(len(rows))
    # Rows that score from the same token on need the same logits.
    order = sorted(range(len(rows)), key=lambda i: (-len(rows[i].input_ids), rows[i].first))
    with (
        evaluating(model, mend=MEND),
        progress(description, total=sum(row.num_scored for row in rows)) as bar,
    ):
        done = 0
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = [rows[i] for i in chosen]
            nats[chosen] = _sum_rows(score_batch(model, pad_rows(batch)))
            count = sum(row.num_scored for row in batch)
            done += count
            bar.advance(count, nll_per_token=float(nats.sum()) / done)
    return nats


def pad_rows(rows: Sequence[Row]) -> dict[str, Tensor]:
    """The batch of `rows`: padded on the right, where causal attention does not look."""
    lengths = [len(row.input_ids) for row in rows]
    input_ids = np.zeros((len(rows), max(lengths)), np.int64)  # [rows, seq]
    labels = np.full_like(input_ids, IGNORED_LABEL)
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    for i, row in enumerate(rows):
        input_ids[i, : lengths[i]] = row.input_ids
        labels[i, row.first : lengths[i]] = row.input_ids[row.first :]
    batch = {"input_ids": torch.from_numpy(input_ids), "labels": torch.from_numpy(labels)}
    # Without a mask attention takes its faster causal kernel.
    return batch if mask.all() else {**batch, "attention_mask": torch.from_numpy(mask).long()}


def _run(model: PreTrainedModel, inputs: Mapping[str, Tensor], *, logits_to_keep: int) -> Tensor:
    """The logits of the last `logits_to_keep` positions, `[rows, kept, vocab]`."""
    # Some models lack the argument and give the logits of all positions, which are cut here.
    takes = "logits_to_keep" in forward_parameters(model)
    more = {"logits_to_keep": logits_to_keep} if takes else {}
    return model(**inputs, use_cache=False, **more).logits[:, -logits_to_keep:]


def _sum_rows(nats: Tensor) -> NDArray[np.float64]:
    """The sum of each row, `[rows]`, in double precision."""
    sums: NDArray[np.float64] = nats.double().sum(dim=1).cpu().numpy()
    if not np.isfinite(sums).all():
        raise CheckpointError(
            "the model gives a likelihood that is not finite: its weights are damaged, or its "
            "dtype overflows: load it with dtype float32"
        )
    return sums
