"""Which state of a tuned retriever is kept: the one that finds best what helps the LM most.

The paper selects by the mean reciprocal rank on held-out task data (Lin et al. 2023,
arXiv:2310.01352, appendix B) and leaves open what is relevant: here it is the one passage with the
highest LM score among those that were scored. It is looked for in the whole index, not only among
those: the loss knows no others, and a tower that gets better at it may bring up passages that were
never scored.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ragkit.finetune.radit.lsr_objective import LsrObjective, encode
from ragkit.index.reader import Index
from ragkit.retrieval.queries import unit_vectors
from ragkit.training.objective import Batch

MRR = "mrr"
CANDIDATE_MRR = "candidate_mrr"
TOP_1_LM_SCORE = "top_1_lm_score"

DEPTH = 100
"""Hits that the passage is looked for in; below them its reciprocal rank counts as 0."""


class RankingMeasure:
    """How well a tower ranks passages, for each query.

    Args:
        objective: Gives the tower's scores of the passages that the LM scored.
        index: Is searched; the one that the rows point into.
    """

    def __init__(self, objective: LsrObjective, index: Index) -> None:
        self._objective, self._index = objective, index

    def __call__(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """`mrr` of a search, `candidate_mrr` among scored passages, LM score of the first of those.

        All are `[batch]`.
        """
        vectors, log_targets = encode(model, batch), batch["log_targets"]
        scores = self._objective.compare(vectors, batch)
        scores = scores.masked_fill(~log_targets.isfinite(), -torch.inf)
        liked = log_targets.argmax(-1, keepdim=True)
        return {
            MRR: self._search(vectors, batch["rows"].gather(-1, liked)),
            CANDIDATE_MRR: reciprocal_rank(scores, liked),
            TOP_1_LM_SCORE: batch["lm_scores"].gather(-1, scores.argmax(-1, keepdim=True))[:, 0],
        }

    def _search(self, vectors: Tensor, rows: Tensor) -> Tensor:
        """The reciprocal rank of the passage at each of `rows` `[batch, 1]`, `[batch]`."""
        queries = vectors.float().cpu().numpy()
        if self._index.metric == "cosine":
            queries = unit_vectors(queries)
        _, found = self._index.search(queries, min(DEPTH, len(self._index)))
        hit = torch.from_numpy(found).to(rows.device) == rows  # [batch, k]
        ranks = hit.int().argmax(-1).double() + 1
        return torch.where(hit.any(-1), 1 / ranks, 0)


def reciprocal_rank(scores: Tensor, places: Tensor) -> Tensor:
    """1 over the rank of the passage at each of `places` `[batch, 1]`, `[batch]`.

    Of equal scores all others come before it, so that a tower that tells nothing apart gains
    nothing.

    Args:
        scores: `[batch, k]`, -inf for an empty slot.
    """
    before = (scores >= scores.gather(-1, places)).sum(-1)
    return 1 / before.double()
