"""Who may read whom: causal, within documents, within a window, and both ways within blocks."""

from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask
from transformers import PretrainedConfig
from transformers.cache_utils import Cache
from transformers.masking_utils import create_causal_mask, sliding_window_overlay
from transformers.utils.generic import is_flash_attention_requested

from ragkit.errors import ConfigError
from ragkit.nn.documents import Documents, find_documents

AttentionMask: TypeAlias = Tensor | BlockMask | Documents | None
"""`None` stands for plain causal attention; the rest belongs to one attention implementation."""


def make_attention_mask(
    config: PretrainedConfig,
    inputs_embeds: Tensor,
    *,
    padding_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    past_key_values: Cache | None = None,
    sliding_window: int | None = None,
    block_ids: Tensor | None = None,
) -> AttentionMask:
    """The mask in the form that the attention implementation of `config` takes.

    A position reads itself and what precedes it, as far as the arguments allow. The mask is made
    once per forward and serves every layer.

    Args:
        inputs_embeds: `[batch, seq, hidden]`; only its shape, type and device count.
        padding_mask: 1 for tokens and 0 for padding, `[batch, past + seq]`.
        position_ids: `[batch, seq]`. Where they do not rise by one, a document begins: without
            padding mask and cache, it sees nothing of the one before.
        sliding_window: Positions that are read, the reader's own included.
        block_ids: `[batch, seq]`. Positions of the same number read one another in both
            directions; -1 for those that stay causal. A block must lie within one document.

    Raises:
        ConfigError: The window is not positive, or FlashAttention, which takes no mask, is asked
            for blocks.
    """
    if sliding_window is not None and sliding_window < 1:
        raise ConfigError(
            f"sliding_window counts the reader's own position, got {sliding_window}: "
            "give at least 1, or None for no window"
        )
    if block_ids is not None and is_flash_attention_requested(config):
        raise ConfigError(
            "FlashAttention takes no mask for blocks: "
            "load the model with attn_implementation='sdpa' or 'flex_attention'"
        )
    restrictions = (padding_mask, past_key_values, sliding_window, block_ids)
    is_plain = all(restriction is None for restriction in restrictions)
    if is_plain and position_ids is not None and _splits_documents(config):
        return find_documents(position_ids.expand(len(inputs_embeds), -1))
    return create_causal_mask(
        config=config,
        inputs_embeds=inputs_embeds,
        attention_mask=padding_mask,
        past_key_values=past_key_values,
        position_ids=position_ids,
        and_mask_function=None
        if sliding_window is None
        else sliding_window_overlay(sliding_window),
        block_sequence_ids=block_ids,
    )


def _splits_documents(config: PretrainedConfig) -> bool:
    """Whether packed documents are cut apart: their number is unknown to a compiled graph."""
    return config._attn_implementation == "sdpa" and not torch.compiler.is_compiling()
