"""A key-value cache that has room for the tokens to come."""

from typing import Any, cast

from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

MIN_ROOM = 64


def new_cache(model: PreTrainedModel) -> Cache:
    """An empty cache with the kind of layer that each layer of `model` needs."""
    cache = DynamicCache(config=model.config)
    cache.layers = [
        RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer in a buffer half as long again as what it holds.

    transformers' `DynamicLayer` copies all it holds for each token; its `StaticLayer` attends to
    the whole buffer for each token. Here `keys` and `values` show the filled part of a buffer, so
    that a token costs one row, and a copy of the whole comes once in many tokens.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *args: Any,  # noqa: ANN401 - as in the base class
        **kwargs: Any,  # noqa: ANN401
    ) -> tuple[Tensor, Tensor]:
        """All keys and values with the new ones at the end, `[batch, kv_heads, seq, head_dim]`."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        stop = start + key_states.shape[-2]
        keys, values = self._make_room(start, stop, key_states, value_states)
        keys[..., start:stop, :] = key_states
        values[..., start:stop, :] = value_states
        self.keys, self.values = keys[..., :stop, :], values[..., :stop, :]
        return self.keys, self.values

    def _make_room(
        self, start: int, stop: int, key_states: Tensor, value_states: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Buffers that hold the first `start` positions and reach to `stop` or beyond."""
        filled = cast(tuple[Tensor, Tensor], (self.keys, self.values))
        if (
            self._buffers is not None
            and self._buffers[0].shape[-2] >= stop
            # Whatever selects rows leaves copies in `keys`, and the buffers are of the past.
            and self._buffers[0].data_ptr() == filled[0].data_ptr()
        ):
            return self._buffers
        size = stop + max(MIN_ROOM, stop // 2)
        self._buffers = _empty(key_states, size), _empty(value_states, size)
        if start:
            for buffer, states in zip(self._buffers, filled, strict=True):
                buffer[..., :start, :] = states
        return self._buffers


def _empty(states: Tensor, size: int) -> Tensor:
    batch, kv_heads, _, head_dim = states.shape
    return states.new_empty(batch, kv_heads, size, head_dim)
