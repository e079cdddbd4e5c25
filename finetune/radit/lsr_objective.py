"""The retriever's loss: only queries are encoded, passages are looked up in the index.

Lin et al. 2023, arXiv:2310.01352, section 2.3: the document tower stays as it is, so that the
index keeps its vectors and neither the tower nor the LM has to be in memory.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ragkit.errors import ConfigError
from ragkit.finetune.radit.lsr import MIN_PASSAGES, Direction, lsr_loss
from ragkit.finetune.radit.lsr_rows import LsrRow
from ragkit.index.reader import Index
from ragkit.training.objective import Batch
from ragkit.types import Metric


class LsrCollator:
    """Makes batches of queries and the stored vectors of their passages.

    Args:
        tokenize: Gives `input_ids` and `attention_mask` of some queries.
        index: The one that the rows point into.
    """

    def __init__(
        self, tokenize: Callable[[Sequence[str]], dict[str, Tensor]], index: Index
    ) -> None:
        self._tokenize, self._index = tokenize, index

    def __call__(self, batch: list[LsrRow]) -> dict[str, Any]:
        """Queries `[batch, seq]`, `documents` `[batch, k, dim]`, and the rest as in `LsrRow`.

        The vector of an empty slot is 0.
        """
        rows = np.stack([row.rows for row in batch])  # [batch, k]
        documents = np.zeros((*rows.shape, self._index.dim), np.float32)
        documents[rows >= 0] = self._index.vectors(rows[rows >= 0])
        return {
            **self._tokenize([row.query for row in batch]),
            "documents": torch.from_numpy(documents),
            "rows": torch.from_numpy(rows),
            "log_targets": torch.from_numpy(np.stack([row.log_targets for row in batch])),
            "lm_scores": torch.from_numpy(np.stack([row.lm_scores for row in batch])),
        }


class LsrObjective:
    """The divergence between the retriever's weights of passages and what the LM made of them.

    Args:
        metric: How the index compares.
        temperature: Scores are divided by it before their softmax.
        direction: As for `lsr_loss`.

    Raises:
        ConfigError: The temperature is not above 0.
    """

    def __init__(
        self, *, metric: Metric, temperature: float, direction: Direction = "reverse"
    ) -> None:
        if not 0 < temperature < float("inf"):
            raise ConfigError(
                f"retriever_temperature must be above 0 and finite, got {temperature}"
            )
        self.temperature = temperature
        self._metric, self._direction = metric, direction

    def count_targets(self, batch: Batch) -> Tensor:
        """Queries with something to choose, a scalar."""
        return (batch["log_targets"].isfinite().sum(-1) >= MIN_PASSAGES).sum()

    def count_tokens(self, batch: Batch) -> int:
        """Positions of the queries, padding included."""
        return int(batch["input_ids"].numel())

    def loss(self, model: nn.Module, batch: Batch, *, num_items_in_batch: Tensor) -> Tensor:
        """The divergences of this batch's queries divided by `num_items_in_batch`, a scalar."""
        scores = self.scores(model, batch)
        return lsr_loss(scores, batch["log_targets"], direction=self._direction) / (
            num_items_in_batch
        )

    def scores(self, model: nn.Module, batch: Batch) -> Tensor:
        """The retriever's scores divided by the temperature, in fp32, `[batch, k]`."""
        return self.compare(encode(model, batch), batch)

    def compare(self, vectors: Tensor, batch: Batch) -> Tensor:
        """`scores` of queries that are encoded already, `[batch, dim]`."""
        with torch.autocast(vectors.device.type, enabled=False):
            found = compare(vectors.float(), batch["documents"], metric=self._metric)
        return found / self.temperature


def encode(model: nn.Module, batch: Batch) -> Tensor:
    """Vectors of the queries of a batch, `[batch, dim]`."""
    vectors: Tensor = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    return vectors


def compare(queries: Tensor, documents: Tensor, *, metric: Metric) -> Tensor:
    """Scores `[batch, k]` of `documents` `[batch, k, dim]` for `queries` `[batch, dim]`."""
    if metric == "l2":
        return -(queries.unsqueeze(1) - documents).square().sum(-1)
    if metric == "cosine":  # stored vectors have length 1 already
        queries = F.normalize(queries, dim=-1)
    return torch.einsum("bd,bkd->bk", queries, documents)


def require_gradient(objective: LsrObjective, tower: nn.Module, batch: Batch) -> None:
    """Try on a batch whether the loss reaches the tower; no weight changes.

    Raises:
        ConfigError: No weight gets a gradient, so that training would change nothing.
    """
    tower.eval()
    one = torch.ones((), dtype=torch.long)
    loss = objective.loss(tower, batch, num_items_in_batch=one)
    if loss.requires_grad:
        loss.backward()
    gradients = [x.grad for x in tower.parameters() if x.grad is not None]
    reached = any(bool(gradient.any()) for gradient in gradients)
    tower.zero_grad()
    if not reached:
        raise ConfigError(
            "no gradient of the loss reaches the query tower: make sure that its weights are not "
            "frozen, and that its passages and targets differ"
        )
