"""Probability of given texts under the mixture of several prompts (arXiv:2310.01352, eq. 2)."""

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedModel

from ragkit.decoding.continuation_scores import TargetPair, score_targets
from ragkit.decoding.mixture import MixtureRequest
from ragkit.errors import CheckpointError


def score_mixtures(
    model: PreTrainedModel,
    requests: Sequence[MixtureRequest],
    targets: Sequence[Sequence[tuple[int, ...]]],
    *,
    description: str,
) -> list[list[float]]:
    """Log-probability of each target of each request, in nats.

    A prompt whose logits are not numbers for one of the targets does not count for any of them.

    Args:
        targets: Token ids of the texts that may follow each request.
        description: Names the progress bar.

    Raises:
        CheckpointError: The logits of all prompts of a request are not numbers.
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
        _mix([[next(values) for _ in request.prompts] for _ in texts], request)
        for request, texts in zip(requests, targets, strict=True)
    ]


def _mix(log_probs: Sequence[Sequence[float]], request: MixtureRequest) -> list[float]:
    """The weighted mean over prompts of `log_probs`, `[targets][prompts]`, for each target."""
    if not log_probs:
        return []
    table, weights = np.array(log_probs, np.float64), np.array(request.log_weights)
    usable = ~np.isnan(table).any(axis=0) & np.isfinite(weights)  # [prompts]
    if not usable.any():
        raise CheckpointError(
            "the model's logits are not numbers: load it in float32 or bfloat16 if it is in "
            "float16, or check its weights"
        )
    kept = weights[usable] - np.logaddexp.reduce(weights[usable])
    return [float(x) for x in np.logaddexp.reduce(table[:, usable] + kept, axis=1)]
