"""One text from several prompts: their next-token laws, mixed (arXiv:2301.12652, section 3.2).

Sums of probabilities are taken in log space and in float32, whatever the model computes in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ragkit.decoding.batching import Request
from ragkit.decoding.prefix import Prefix
from ragkit.decoding.shared_prefix import PrefixReader, SharedPrefix, SplitPrompt
from ragkit.errors import ConfigError

MixtureKind = Literal["token", "token-bayes"]
"""`token` keeps the weights of the prompts as they are. `token-bayes` multiplies each by what its
prompt gives to every token chosen: so the law of the next token is that of the mixture of whole
texts, sum over c of p(c) p(text | c)."""


class MixturePrefix:
    """Texts that are each read after several prompts, and continued by the mixture of them.

    Args:
        inner: Reads the prompts of all texts, one row for each, text after text.
        log_weights: Of the prompts of each text, in nats; at least one for each, and a text may
            have fewer than another.

    Raises:
        ConfigError: A text has no prompt.
    """

    def __init__(
        self, inner: Prefix, log_weights: Sequence[Sequence[float]], *, kind: MixtureKind
    ) -> None:
        self._inner, self._kind = inner, kind
        self._sizes = [len(weights) for weights in log_weights]
        if not all(self._sizes):
            raise ConfigError("a mixture needs at least one prompt for each text, got none")
        self._log_weights = torch.tensor([one for weights in log_weights for one in weights])
        self._log_probs = torch.empty(0)

    @torch.inference_mode()
    def read_prompts(self) -> Tensor:
        """Logits of the first new token, `[batch, vocab]`, in float32."""
        logits = self._inner.read_prompts()
        self._log_weights = self._log_weights.to(logits.device)
        return self._mix(logits)

    @torch.inference_mode()
    def append(self, tokens: Tensor) -> Tensor:
        """Read one more token per text, `[batch]`; as `read_prompts` for the one after it."""
        sizes = torch.tensor(self._sizes, device=tokens.device)
        spread = tokens.repeat_interleave(sizes)  # [rows]
        if self._kind == "token-bayes":
            joint = self._log_weights + self._log_probs.gather(-1, spread[:, None]).squeeze(-1)
            parts = joint.split(self._sizes)
            self._log_weights = torch.cat([part.log_softmax(0) for part in parts])
        return self._mix(self._inner.append(spread))

    @torch.inference_mode()
    def keep(self, rows: Tensor) -> None:
        """Forget all texts but those at `rows`, `[kept]`."""
        ends = list(accumulate(self._sizes))
        kept = rows.tolist()
        inner = [row for text in kept for row in range(ends[text] - self._sizes[text], ends[text])]
        places = torch.tensor(inner, device=rows.device)
        self._inner.keep(places)
        self._log_weights, self._log_probs = self._log_weights[places], self._log_probs[places]
        self._sizes = [self._sizes[text] for text in kept]

    def _mix(self, logits: Tensor) -> Tensor:
        """`[rows, vocab]` -> `[batch, vocab]`."""
        scores = logits.float()
        normalisers = scores.logsumexp(-1)  # [rows]
        self._log_probs = scores - normalisers[:, None]
        joint = (self._log_probs + self._log_weights[:, None]).split(self._sizes)
        law = torch.stack([part.logsumexp(0) for part in joint])
        # A repetition penalty scales logits, so that it matters where their zero is: the mean of
        # the prompts' makes one prompt, or several equal ones, what they are in plain decoding.
        levels = (self._log_weights.exp() * normalisers).split(self._sizes)
        return law + torch.stack([part.sum() for part in levels])[:, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureRequest(Request):
    """A text to continue after several prompts; make it with `mixture_request`.

    Args:
        log_weights: One per prompt.
    """

    prompts: tuple[SplitPrompt, ...]
    log_weights: tuple[float, ...]

    @property
    def num_positions(self) -> int:
        """Positions of the model that the longest prompt takes."""
        return max(len(prompt.tokens) for prompt in self.prompts)


def mixture_request(prompts: Sequence[SplitPrompt], log_weights: Sequence[float]) -> MixtureRequest:
    """A request for one text from `prompts`.

    Its `tokens`, on which random draws and the repetition penalty depend, are those of all
    prompts, joined in an order of their own: so the order of the prompts does not matter, and one
    prompt alone gives what it gives in plain decoding.
    """
    tokens = [token for prompt in sorted(one.tokens for one in prompts) for token in prompt]
    return MixtureRequest(
        tuple(tokens), prompts=tuple(prompts), log_weights=tuple(map(float, log_weights))
    )


def open_mixtures(
    batch: Sequence[MixtureRequest],
    *,
    model: PreTrainedModel,
    kind: MixtureKind,
    reader: PrefixReader | None = None,
) -> MixturePrefix:
    """What reads the prompts of a batch of requests; the prefixes that they share, once."""
    prompts = [prompt for request in batch for prompt in request.prompts]
    inner = SharedPrefix(model, prompts, reader=reader)
    return MixturePrefix(inner, [request.log_weights for request in batch], kind=kind)
