"""Chooses the next token of each row.

Every row draws with random numbers of its own, made from the seed and its prompt alone: one uniform
number per token, turned into a token by the inverse of the cumulative distribution. So a text
does not depend on what stands beside it in the batch, on the device that draws, or on how many
tokens may follow.
"""

from collections.abc import Sequence

import numpy as np
import torch
import xxhash
from torch import Tensor
from transformers import LogitsProcessor

from ragkit.decoding.logits_processors import KeepsRows, build_chain
from ragkit.decoding.options import GenerationOptions
from ragkit.decoding.prefix import left_pad

NO_TOKEN = -1
"""Stands for a token where the logits are not numbers, or forbid everything."""


class Chooser:
    """The choices of a batch.

    Args:
        prompts: Token ids of each row.
        samples: How often each row's prompt came before, so that equal prompts differ.
        num_steps: Most tokens that are chosen for a row.
        processors: Your own, which apply to logits before temperature and cuts.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        options: GenerationOptions,
        samples: Sequence[int],
        num_steps: int,
        device: torch.device,
        processors: Sequence[LogitsProcessor] = (),
    ) -> None:
        history, padding = left_pad(prompts)
        self._history = history.to(device)  # [batch, seq]
        self._chain = build_chain(options, padding=padding, device=device, processors=processors)
        self._draws, self._step = None, 0
        if options.do_sample:
            rows = zip(prompts, samples, strict=True)
            draws = [
                draw_uniform(prompt, seed=options.seed, sample=number, num_steps=num_steps)
                for prompt, number in rows
            ]
            self._draws = torch.stack(draws).to(device)  # [batch, num_steps]

    @torch.inference_mode()
    def choose(self, logits: Tensor) -> Tensor:
        """The next token of each row, `[batch]`, or `NO_TOKEN`, for logits `[batch, vocab]`."""
        scores = logits.float()
        for processor in self._chain:
            scores = processor(self._history, scores)
        if self._draws is None:
            tokens = scores.argmax(-1)
        else:
            tokens = draw_tokens(scores, self._draws[:, self._step])
        self._step += 1
        if self._chain:
            self._history = torch.cat([self._history, tokens[:, None]], dim=1)
        allowed = scores.gather(-1, tokens[:, None]).squeeze(-1).isfinite()
        return torch.where(allowed, tokens, NO_TOKEN)

    @torch.inference_mode()
    def keep(self, rows: Tensor) -> None:
        """Forget all rows but those at `rows`, `[kept]`."""
        self._history = self._history[rows]
        if self._draws is not None:
            self._draws = self._draws[rows]
        for processor in self._chain:
            if isinstance(processor, KeepsRows):
                processor.keep(rows)


def draw_uniform(prompt: Sequence[int], *, seed: int, sample: int, num_steps: int) -> Tensor:
    """The random numbers of one row, below 1, `[num_steps]`; a longer row starts the same."""
    digest = xxhash.xxh3_64(np.array([seed, sample, *prompt], np.int64).tobytes())
    generator = torch.Generator().manual_seed(digest.intdigest() >> 1)
    return torch.rand(num_steps, dtype=torch.float64, generator=generator)


def draw_tokens(scores: Tensor, uniform: Tensor) -> Tensor:
    """One token per row, `[batch]`, for scores `[batch, vocab]` and numbers below 1 `[batch]`."""
    # In float64: the rounding of a float32 sum over 100,000 tokens would hide the rarest.
    cumulative = scores.softmax(-1).cumsum(-1, dtype=torch.float64)
    levels = uniform[:, None] * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, levels, right=True).squeeze(-1)
    return tokens.clamp(max=scores.shape[-1] - 1)  # beyond the last only where scores are NaN


@torch.inference_mode()
def token_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """What logits `[batch, vocab]` give the tokens `[batch]`, in nats, `[batch]`, in float32."""
    scores = logits.float()
    chosen = scores.gather(-1, tokens.clamp(min=0)[:, None]).squeeze(-1)  # NO_TOKEN is none
    return chosen - scores.logsumexp(-1)
