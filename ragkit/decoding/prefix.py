"""Where the logits of the next token come from."""

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from ragkit.decoding.cache import new_cache
from ragkit.errors import ConfigError
from ragkit.models.interface import forward_parameters

PADDING = 0
"""Fills the prompts of a batch to one length; it is masked, so any token would do."""


class Prefix(Protocol):
    """Texts read so far, one per row, and what is kept of them to go on reading.

    One model with its cache is the plain case. A mixture over passages or a contrast of two models
    is another `Prefix`, made of several plain ones: the loop does not know.
    """

    def read_prompts(self) -> Tensor:
        """Logits of the first new token, `[batch, vocab]`; called once, before all else."""
        ...

    def append(self, tokens: Tensor) -> Tensor:
        """Read one more token per row, `[batch]`; logits of the next one, `[batch, vocab]`."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but those at `rows`, `[kept]`."""
        ...


def left_pad(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, list[int]]:
    """The prompts as one tensor `[batch, seq]` that ends with them, and the padding of each."""
    width = max(map(len, prompts))
    padding = [width - len(prompt) for prompt in prompts]
    rows = [[PADDING] * pad + list(prompt) for pad, prompt in zip(padding, prompts, strict=True)]
    return torch.tensor(rows, dtype=torch.int64), padding


class ModelPrefix:
    """Prompts of any lengths read by one causal language model.

    Args:
        prompts: Token ids, at least one of each.
        cache: What the model keeps of the text; all keys and values if not given.

    Raises:
        ConfigError: The model takes no cache, or is in training mode.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        *,
        cache: Cache | None = None,
    ) -> None:
        if model.training:
            raise ConfigError(
                "the model is in training mode, where dropout changes what it says: call "
                "model.eval() before generating"
            )
        self._model, self._parameters = model, _parameters(model)
        self._cache = new_cache(model) if cache is None else cache
        tokens, self._padding = left_pad(prompts)
        self._prompts = tokens.to(model.device)
        self._length = 0
        self._set_pads()

    @torch.inference_mode()
    def read_prompts(self) -> Tensor:
        """Logits of the first new token, `[batch, vocab]`."""
        return self._read(self._prompts)

    @torch.inference_mode()
    def append(self, tokens: Tensor) -> Tensor:
        """Read one more token per row, `[batch]`; logits of the next one, `[batch, vocab]`."""
        return self._read(tokens[:, None])

    @torch.inference_mode()
    def keep(self, rows: Tensor) -> None:
        """Forget all rows but those at `rows`, `[kept]`."""
        self._cache.reorder_cache(cast(torch.LongTensor, rows))
        self._padding = [self._padding[row] for row in rows.tolist()]
        self._set_pads()

    def _set_pads(self) -> None:
        """Padding of the rows `[batch, 1]`; `None` if there is none, where a model is faster."""
        padding = torch.tensor(self._padding, device=self._model.device)[:, None]
        self._pads = padding if any(self._padding) else None

    def _read(self, tokens: Tensor) -> Tensor:
        """Logits after the last of `tokens` `[batch, seq]`, `[batch, vocab]`."""
        start, self._length = self._length, self._length + tokens.shape[1]
        inputs: dict[str, Tensor] = {}
        if self._pads is not None:
            places = torch.arange(self._length, device=tokens.device)[None]  # [1, seq]
            inputs["attention_mask"] = (places >= self._pads).long()
            inputs["position_ids"] = (places[:, start:] - self._pads).clamp(min=0)
        output = self._model(
            input_ids=tokens,
            past_key_values=self._cache,
            use_cache=True,
            **{name: value for name, value in inputs.items() if name in self._parameters},
            **({"logits_to_keep": 1} if "logits_to_keep" in self._parameters else {}),
        )
        return output.logits[:, -1]


def _parameters(model: PreTrainedModel) -> frozenset[str]:
    """Names of what `model` takes, a cache among them."""
    names = forward_parameters(model)
    if "past_key_values" not in names:
        raise ConfigError(
            f"{type(model).__name__} takes no past_key_values, so that it cannot go on from what "
            "it has read: use its own generate()"
        )
    return names
