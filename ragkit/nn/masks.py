"""Who may read whom: causal, within documents, within a window, and both ways within blocks."""

from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.masking_utils import create_causal_mask, sliding_window_overlay
from transformers.utils.generic import is_flash_attention_requested

from ragkit.errors import ConfigError, ShapeError
from ragkit.nn.documents import Documents, find_documents

AttentionMask: TypeAlias = Tensor | BlockMask | Documents | None
"""`None` stands for plain causal attention; the rest belongs to one attention implementation."""


def make_attention_mask(
    config: PreTrainedConfig,
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
        block_ids: `[batch, past + seq]`. Positions of the same number read one another in both
            directions; -1 for those that stay causal. A block must lie within one document. What
            the cache holds is read, but no longer reads.

    Raises:
        ConfigError: The window is not positive, or FlashAttention, which takes no mask, is asked
            for blocks, or for the documents of more than one packed row.
        ShapeError: `block_ids` has another shape.
    """
    if sliding_window is not None and sliding_window < 1:
        raise ConfigError(
            f"sliding_window counts the reader's own position, got {sliding_window}: "
            "give at least 1, or None for no window"
        )
    if block_ids is not None:
        _check_blocks(block_ids, config, inputs_embeds, past_key_values)
    restrictions = (padding_mask, past_key_values, sliding_window, block_ids)
    is_plain = all(restriction is None for restriction in restrictions)
    if padding_mask is None and past_key_values is None and position_ids is not None:
        _check_flash(config, position_ids.expand(len(inputs_embeds), -1))
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


def _check_flash(config: PreTrainedConfig, position_ids: Tensor) -> None:
    # Without a mask transformers finds the documents by their positions, but in one row only.
    if len(position_ids) == 1 or not is_flash_attention_requested(config):
        return
    if find_documents(position_ids) is not None:
        raise ConfigError(
            f"FlashAttention keeps the documents of one packed row apart, got {len(position_ids)} "
            "rows: set the batch size to 1, or load the model with attn_implementation='sdpa'"
        )


def _check_blocks(
    block_ids: Tensor, config: PreTrainedConfig, inputs_embeds: Tensor, cache: Cache | None
) -> None:
    if is_flash_attention_requested(config):
        raise ConfigError(
            "FlashAttention takes no mask for blocks: "
            "load the model with attn_implementation='sdpa' or 'flex_attention'"
        )
    batch, seq = inputs_embeds.shape[:2]
    past = 0 if cache is None else int(cache.get_seq_length())
    # Numbers are looked up by the position in the whole text, so that too few shift unnoticed.
    if block_ids.shape != (batch, past + seq):
        raise ShapeError(
            f"block_ids must have shape {[batch, past + seq]}, for {past} cached positions and "
            f"{seq} new ones, got {[*block_ids.shape]}: give one number for each position from "
            "the first cached one on, -1 where there is no block"
        )


def _splits_documents(config: PreTrainedConfig) -> bool:
    """Whether packed documents are cut apart: their number is unknown to a compiled graph."""
    return config._attn_implementation == "sdpa" and not torch.compiler.is_compiling()
