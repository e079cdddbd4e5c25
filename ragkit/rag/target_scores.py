"""Probability of given texts under the mixture of several prompts (arXiv:2310.01352, eq. 2)."""

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedModel

from ragkit.decoding.continuation_scores import TargetPair, score_targets
from ragkit.decoding.mixture import MixtureRequest


def score_mixtures(
    model: PreTrainedModel,
    requests: Sequence[MixtureRequest],
    targets: Sequence[Sequence[tuple[int, ...]]],
    *,
    description: str,
) -> list[list[float]]:
    """Log-probability of each target of each request, in nats.

    Args:
        targets: Token ids of the texts that may follow each request.
        description: Names the progress bar.

    Raises:
        StorageError: The device has too little memory.
    """
    pairs = [
        # The last token of a prompt gives the logits of a target's first one.
        TargetPair(prompt.tokens[:-1], prompt.tokens[-1:], target)
        for request, texts in zip(requests, targets, strict=True)
        for target in texts
        for prompt in request.prompts
    ]
    scores = score_targets(model, pairs, description=description)
    values = iter(scores.sum_logprob.tolist())
    return [
        [_mix([next(values) for _ in request.prompts], request) for _ in texts]
        for request, texts in zip(requests, targets, strict=True)
    ]


def _mix(log_probs: Sequence[float], request: MixtureRequest) -> float:
    terms = np.array(log_probs, np.float64) + np.array(request.log_weights)
    return float(np.logaddexp.reduce(terms))
