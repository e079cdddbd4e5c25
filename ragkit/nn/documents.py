"""Attention within each document of packed rows, without a mask.

A mask of `[seq, seq]` makes attention on packed rows cost more than on plain ones. Cut apart, the
documents cost less, because each then has the fast kernel for causal attention to itself.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from transformers.masking_utils import find_packed_sequence_indices


class Documents(NamedTuple):
    """Takes the place of a mask: positions read what precedes them in their own document."""

    lengths: tuple[int, ...]
    """Tokens of each document, row after row."""


def find_documents(position_ids: Tensor) -> Documents | None:
    """The documents of `position_ids` `[batch, seq]`; `None` where every row is one.

    A document begins where positions do not rise by one.
    """
    numbers = find_packed_sequence_indices(position_ids)  # [batch, seq], from 0 in each row
    if numbers is None:
        return None
    rows = torch.arange(len(numbers), device=numbers.device)[:, None]
    _, lengths = torch.unique_consecutive(
        (numbers + rows * numbers.shape[1]).flatten(), return_counts=True
    )
    return Documents(tuple(lengths.tolist()))


def mix_by_document(
    mix: Callable[[Tensor, Tensor, Tensor], Tensor],
    states: tuple[Tensor, Tensor, Tensor],
    documents: Documents,
) -> Tensor:
    """Mixed values of all documents, `[batch, seq, heads, head_dim]`.

    Args:
        mix: Gives the mixed values `[1, tokens, heads, head_dim]` of one document's queries, keys
            and values, each `[1, heads, tokens, head_dim]`.
        states: Queries, keys and values, each `[batch, heads, seq, head_dim]`.
    """
    batch = len(states[0])
    # Split and concatenate, whose gradients are one copy each; a slice's is a tensor of zeros.
    parts = (
        state.transpose(1, 2).flatten(0, 1).transpose(0, 1)[None].split(documents.lengths, dim=2)
        for state in states
    )
    mixed = torch.cat([mix(*part) for part in zip(*parts, strict=True)], dim=1)
    return mixed.unflatten(1, (batch, -1)).squeeze(0)
