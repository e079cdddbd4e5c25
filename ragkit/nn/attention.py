"""Grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245, section 2.2)."""

from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ragkit.nn.documents import Documents, mix_by_document
from ragkit.nn.masks import AttentionMask
from ragkit.nn.norm import RMSNorm
from ragkit.nn.rope import Rotation, apply_rotary


class AttentionLayer(Protocol):
    """A module whose queries, keys and values `attend` mixes."""

    config: PreTrainedConfig
    head_dim: int
    num_key_value_groups: int
    """Query heads per key head, under the name by which transformers asks for it."""
    sliding_window: int | None
    training: bool


class GroupedQueryAttention(nn.Module):
    """Self-attention whose query heads share key and value heads.

    Args:
        config: Has Hugging Face's names for the sizes, `attention_bias`, `attention_dropout` and
            `rms_norm_eps`. Asked at every call for the implementation, which a user may change.
        layer_idx: Place of the layer in the cache.
        qk_norm: Normalise each head of queries and keys before its rotation.
        sliding_window: Positions that are read, the reader's own included. The mask must say the
            same: only FlashAttention, which takes no mask, looks here.
    """

    is_causal = True

    def __init__(
        self,
        config: PreTrainedConfig,
        *,
        layer_idx: int,
        qk_norm: bool = False,
        sliding_window: int | None = None,
    ) -> None:
        super().__init__()
        self.config, self.layer_idx, self.head_dim = config, layer_idx, config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.sliding_window = sliding_window
        width, bias = config.hidden_size, config.attention_bias
        query_width = config.num_attention_heads * config.head_dim
        key_width = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(width, query_width, bias=bias)
        self.k_proj = nn.Linear(width, key_width, bias=bias)
        self.v_proj = nn.Linear(width, key_width, bias=bias)
        self.o_proj = nn.Linear(query_width, width, bias=bias)
        self.q_norm = RMSNorm(config.head_dim, eps=config.rms_norm_eps) if qk_norm else None
        self.k_norm = RMSNorm(config.head_dim, eps=config.rms_norm_eps) if qk_norm else None

    def forward(
        self,
        x: Tensor,
        *,
        rotation: Rotation | None = None,
        attention_mask: AttentionMask = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,  # noqa: ANN401 - for the attention implementation
    ) -> tuple[Tensor, Tensor | None]:
        """What each position of `x` `[batch, seq, hidden]` reads, and the weights if there are any.

        Args:
            rotation: From `RotaryEmbedding`; `None` for attention that knows no positions.
            attention_mask: From `ragkit.nn.masks`.
            past_key_values: Cache that the new keys and values join.
        """
        query = self._heads(self.q_proj(x), norm=self.q_norm, rotation=rotation)
        key = self._heads(self.k_proj(x), norm=self.k_norm, rotation=rotation)
        value = self._heads(self.v_proj(x))
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        mixed, weights = attend(self, query, key, value, attention_mask=attention_mask, **kwargs)
        return self.o_proj(mixed.flatten(2)), weights

    def _heads(
        self, x: Tensor, *, norm: RMSNorm | None = None, rotation: Rotation | None = None
    ) -> Tensor:
        """`[batch, seq, heads * head_dim]` -> `[batch, heads, seq, head_dim]`."""
        x = x.unflatten(-1, (-1, self.head_dim))
        x = (x if norm is None else norm(x)).transpose(1, 2)
        return x if rotation is None else apply_rotary(x, rotation)


def attend(
    layer: AttentionLayer,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    attention_mask: AttentionMask,
    **kwargs: Any,  # noqa: ANN401 - for the attention implementation
) -> tuple[Tensor, Tensor | None]:
    """Mixed values `[batch, seq, heads, head_dim]`, and the weights from those who have them.

    Args:
        layer: Says which implementation, and how.
        query: `[batch, heads, seq, head_dim]`.
        key: `[batch, kv_heads, past + seq, head_dim]`, as is `value`.
        attention_mask: From `ragkit.nn.masks`.
    """
    implementation = partial(
        ALL_ATTENTION_FUNCTIONS.get_interface(layer.config._attn_implementation, eager_attention),
        layer,
        dropout=layer.config.attention_dropout if layer.training else 0.0,
        scaling=layer.head_dim**-0.5,
        sliding_window=layer.sliding_window,
        **kwargs,
    )
    if isinstance(attention_mask, Documents):
        mixed = mix_by_document(
            lambda *states: implementation(*states, None)[0], (query, key, value), attention_mask
        )
        return mixed, None
    return implementation(query, key, value, attention_mask)


def eager_attention(
    layer: AttentionLayer,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float,
    **_kwargs: object,
) -> tuple[Tensor, Tensor]:
    """Attention that also gives its weights, `[batch, heads, seq, past + seq]`.

    Args:
        attention_mask: Added to the scores, `[batch, 1, seq, past + seq]`.
    """
    key, value = (
        states.repeat_interleave(layer.num_key_value_groups, dim=1) for states in (key, value)
    )
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    mixed = F.dropout(weights, p=dropout) @ value
    return mixed.transpose(1, 2).contiguous(), weights
