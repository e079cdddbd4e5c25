"""Reads what prompts have in common once, and broadcasts its keys and values to all of them.

Demonstrations before the passages of k prompts make up most of their tokens, and are the same in
each (Lin et al. 2023, arXiv:2310.01352, appendix E.2, names the waste).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from ragkit.decoding.cache import RoomyLayer, new_cache
from ragkit.decoding.prefix import ModelPrefix
from ragkit.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SplitPrompt:
    """A prompt whose beginning others may share.

    Args:
        prefix: Read once for all prompts that begin with the same; may be empty.
        suffix: At least one token.

    Raises:
        ConfigError: `suffix` is empty.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.suffix:
            raise ConfigError(
                "a prompt needs a token of its own after what it shares, got none: leave the last "
                "token of the prefix to the suffix"
            )

    @property
    def tokens(self) -> tuple[int, ...]:
        """The whole prompt."""
        return self.prefix + self.suffix


class PrefixReader:
    """Reads prefixes, and keeps what it read last: the next batch mostly shares the same.

    The model must not change as long as a reader is in use.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._prefixes: tuple[tuple[int, ...], ...] = ()
        self._cache = new_cache(model)

    def can_share(self) -> bool:
        """Whether every layer of the model keeps all keys and values, and nothing else."""
        # A sliding window, or the state of a recurrent layer, cannot be moved to another row.
        return all(isinstance(layer, RoomyLayer) for layer in self._cache.layers)

    def read(self, prefixes: tuple[tuple[int, ...], ...]) -> Cache:
        """Keys and values of the prefixes, a row for each, which all end together."""
        if prefixes != self._prefixes:
            cache = new_cache(self._model)
            ModelPrefix(self._model, prefixes, cache=cache).read_prompts()
            self._prefixes, self._cache = prefixes, cache
        return self._cache


class SharedPrefix(ModelPrefix):
    """As `ModelPrefix`, but each distinct `prefix` is read once, whoever shares it.

    A model with layers that keep anything but all keys and values reads every prompt whole.

    Args:
        reader: Takes over prefixes from one batch to the next; a new one if not given.

    Raises:
        ConfigError: As for `ModelPrefix`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[SplitPrompt],
        *,
        reader: PrefixReader | None = None,
    ) -> None:
        super().__init__(model, [prompt.tokens for prompt in prompts])
        self._reader = PrefixReader(model) if reader is None else reader
        self._split = prompts

    @torch.inference_mode()
    def read_prompts(self) -> Tensor:
        """Logits of the first new token, `[batch, vocab]`."""
        # All rows end together: one with a short suffix takes less of its prefix from the reader,
        # and reads the end of it anew where there would be padding.
        num_shared = self._prompts.shape[1] - max(len(prompt.suffix) for prompt in self._split)
        if num_shared and self._reader.can_share():
            self._place_prefixes(num_shared)
            self._length = num_shared
        return self._read(self._prompts[:, self._length :])

    def _place_prefixes(self, num_shared: int) -> None:
        """Fill the first `num_shared` positions of the cache with keys and values."""
        prefixes = tuple(dict.fromkeys(prompt.prefix for prompt in self._split if prompt.prefix))
        states = self._reader.read(prefixes)
        rows, places = self._sources(prefixes, num_shared)
        for number, layer in enumerate(states.layers):
            # A layer that takes the keys of another one has none of its own.
            if isinstance(layer, DynamicLayer) and layer.is_initialized:
                keys = _take(cast(Tensor, layer.keys), rows, places)
                self._cache.update(keys, _take(cast(Tensor, layer.values), rows, places), number)

    def _sources(
        self, prefixes: Sequence[tuple[int, ...]], num_shared: int
    ) -> tuple[Tensor, Tensor]:
        """Rows `[batch, 1]` and positions `[batch, seq]` among the states of `prefixes`."""
        width, device = max(map(len, prefixes)), self._prompts.device
        numbers = {prefix: number for number, prefix in enumerate(prefixes)}
        rows = [numbers.get(prompt.prefix, 0) for prompt in self._split]
        shifts = [
            width - len(prompt.prefix) - padding
            for prompt, padding in zip(self._split, self._padding, strict=True)
        ]
        places = torch.arange(num_shared)[None] + torch.tensor(shifts)[:, None]
        # Beyond the states only under padding, which is masked: any position would do.
        return torch.tensor(rows)[:, None].to(device), places.clamp(0, width - 1).to(device)


def _take(states: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    """`[prefixes, kv_heads, seq, head_dim]` -> `[batch, kv_heads, seq, head_dim]`."""
    return states.transpose(1, 2)[rows, places].transpose(1, 2)
