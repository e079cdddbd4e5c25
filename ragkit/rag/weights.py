"""How much each passage counts: the retriever's scores as a distribution."""

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import ConfigError
from ragkit.types import Metric

# The squared distance of vectors of length 1 is twice their cosine's distance from 1.
_OF_UNIT_VECTORS: dict[Metric, float] = {"ip": 0.05, "cosine": 0.05, "l2": 0.1}


def default_temperature(metric: Metric, *, normalized: bool) -> float:
    """What scores are divided by if nothing is chosen.

    Inner products are spread widely, so that 1 will do, as in RA-DIT (arXiv:2310.01352, section
    2.1); scores of vectors of length 1 lie so close together that at 1 all passages would count
    the same.

    Args:
        normalized: Whether the encoder's vectors have length 1; of no matter for `cosine`.
    """
    return _OF_UNIT_VECTORS[metric] if normalized or metric == "cosine" else 1.0


def passage_log_weights(scores: NDArray[np.floating], *, temperature: float) -> NDArray[np.float64]:
    """The log of the softmax over each row, `[queries, k]`; -inf for an empty slot.

    Args:
        scores: `[queries, k]`, -inf for an empty slot.
        temperature: The scores are divided by it.

    Raises:
        ConfigError: The temperature is not above 0, or a score is NaN or +inf.
    """
    if not 0 < temperature < np.inf:
        raise ConfigError(f"temperature must be above 0 and finite, got {temperature}")
    if np.isnan(scores).any() or np.isposinf(scores).any():
        raise ConfigError("a score is NaN or infinite: give finite scores, and -inf for no passage")
    scaled = np.asarray(scores, np.float64) / temperature
    largest = scaled.max(axis=-1, keepdims=True, initial=-np.inf)
    # A row without any passage keeps -inf everywhere instead of NaN.
    shifted = scaled - np.where(np.isfinite(largest), largest, 0)
    total = np.exp(shifted).sum(axis=-1, keepdims=True)
    normaliser = np.log(total, out=np.zeros_like(total), where=total > 0)
    return np.asarray(shifted - normaliser, np.float64)
