"""What the retriever is to learn: how much each passage helps the LM (LM-supervised retrieval).

Lin et al. 2023, arXiv:2310.01352, section 2.3, equations 4 and 5. Where the paper takes the
likelihood of the whole target, the default here is its geometric mean over the tokens: of a long
target the likelihood is next to nothing whatever the passage, and all passages would be equal.
"""

import logging
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ragkit.errors import ConfigError, DataError
from ragkit.rag.weights import passage_log_weights

ScoreKind = Literal["prob", "geo_prob", "mean_logprob", "sum_logprob"]
Direction = Literal["reverse", "forward"]

MIN_PASSAGES = 2
"""With fewer there is nothing to choose between, and the loss is 0."""
USUAL_ENTROPY = (0.05, 0.98)
"""Shares of the largest entropy that targets teach something at; a warning is given outside."""
USEFUL_ENTROPY = (1e-3, 0.999)
"""Outside, targets name one passage with certainty, or none at all."""

logger = logging.getLogger(__name__)


def target_log_probs(
    sum_logprob: NDArray[np.floating],
    num_tokens: NDArray[np.integer],
    *,
    kind: ScoreKind = "geo_prob",
    temperature: float = 0.01,
) -> NDArray[np.float32]:
    """The log of the softmax over the LM's scores of each query, `[queries, k]`; -inf for none.

    Args:
        sum_logprob: Of the target's tokens behind each passage, in nats, `[queries, k]`; what is
            not finite was not scored.
        num_tokens: Of the target, `[queries, k]`.
        kind: `prob` is the likelihood of the target, `geo_prob` its geometric mean over the tokens,
            and the others are their logarithms.
        temperature: The scores are divided by it.

    Raises:
        ConfigError: The temperature is not above 0, or the kind is unknown.
        DataError: Nothing was scored for a query.
    """
    scores = lm_scores(sum_logprob, num_tokens, kind=kind)
    empty = np.flatnonzero(np.isneginf(scores).all(axis=1))
    if len(empty):
        raise DataError(
            f"{len(empty)} queries have no passage with a finite LM score, such as number "
            f"{empty[0]}: drop them, or score them again"
        )
    return passage_log_weights(scores, temperature=temperature).astype(np.float32)


def lm_scores(
    sum_logprob: NDArray[np.floating], num_tokens: NDArray[np.integer], *, kind: ScoreKind
) -> NDArray[np.float64]:
    """The LM's score of each passage, `[queries, k]`; -inf for one that has none.

    Raises:
        ConfigError: The kind is unknown.
    """
    if kind not in get_args(ScoreKind):
        raise ConfigError(f"kind must be one of {', '.join(get_args(ScoreKind))}, got {kind!r}")
    scored = np.isfinite(sum_logprob) & (num_tokens > 0)
    total = np.where(scored, sum_logprob, 0).astype(np.float64)
    mean = total / np.where(scored, num_tokens, 1)
    scores = {
        "prob": np.exp(total),
        "geo_prob": np.exp(mean),
        "mean_logprob": mean,
        "sum_logprob": total,
    }[kind]
    return np.where(scored, scores, -np.inf)


def entropy_share(log_targets: NDArray[np.floating]) -> float:
    """The mean entropy of targets `[queries, k]`, as a share of the largest that it could be.

    Queries with fewer than two passages are left out; NaN if none is left.
    """
    counts = np.isfinite(log_targets).sum(axis=1)
    kept = log_targets[counts >= MIN_PASSAGES].astype(np.float64)
    if not len(kept):
        return float("nan")
    scored = np.isfinite(kept)
    terms = np.exp(kept) * np.where(scored, kept, 0)
    return float((-terms.sum(axis=1) / np.log(counts[counts >= MIN_PASSAGES])).mean())


def require_useful_targets(log_targets: NDArray[np.floating]) -> float:
    """The entropy share of targets that a retriever can learn from; warns if it is unusual.

    Raises:
        DataError: They name one passage with certainty, or none at all, or there are none.
    """
    share = entropy_share(log_targets)
    least, most = USEFUL_ENTROPY
    found = f"the targets have {share:.4f} of the entropy of equal weights"
    if not least <= share <= most:
        raise DataError(
            f"{found}, so that there is nothing to learn from them: expected {least} to {most}, "
            "best 0.05 to 0.98; choose a higher temperature if it is low, a lower one, or the "
            "score kind geo_prob or mean_logprob, if it is high"
        )
    if not USUAL_ENTROPY[0] <= share <= USUAL_ENTROPY[1]:
        logger.warning(
            "%s: usual are %s to %s; look at temperature and kind", found, *USUAL_ENTROPY
        )
    return share


def lsr_loss(
    scores: Tensor, target_log_probs: Tensor, *, direction: Direction = "reverse"
) -> Tensor:
    """The divergence of retriever and target, summed over the queries of a batch, a scalar.

    Args:
        scores: Of the retriever, divided by its temperature, `[batch, k]`.
        target_log_probs: `[batch, k]`; -inf for an empty slot, whose score does not matter. A query
            with fewer than two passages adds 0.
        direction: `reverse` is KL(retriever || target), as the paper writes; `forward` is
            KL(target || retriever), as public code mostly computes.
    """
    log_t, valid = target_log_probs, target_log_probs.isfinite()
    # A row without any passage would be NaN: it takes part with equal scores and counts nothing.
    counted = valid & (valid.sum(-1, keepdim=True) >= MIN_PASSAGES)
    shut = ~valid & valid.any(-1, keepdim=True)
    log_p = F.log_softmax(scores.masked_fill(~valid, 0).masked_fill(shut, -float("inf")), dim=-1)
    log_p, log_t = log_p.masked_fill(~counted, 0), log_t.masked_fill(~counted, 0)
    gaps = log_p - log_t if direction == "reverse" else log_t - log_p
    weights = log_p.exp() if direction == "reverse" else log_t.exp()
    return (weights * gaps).masked_fill(~counted, 0).sum()
