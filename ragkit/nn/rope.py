"""Rotary position embeddings (Su et al. 2021, arXiv:2104.09864, section 3.2).

Llama 3.1 divides the slow frequencies by a factor and blends the middle ones. The factor differs
between releases (8 and 32), so it is only ever read from `rope_parameters`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

FLOAT32_POSITIONS = 1 << 13
"""From this position on, angles are products in float64.

Rounding the product of position and frequency to float32 shifts an angle by up to 6e-8 of itself:
5e-4 at this position, but 8e-3 at the end of a context of 131,072. Before it the float32 product
is kept, so that logits equal those of implementations that know no other.
"""


class Rotation(NamedTuple):
    """What rotates the pairs of a head, for some positions."""

    cos: Tensor
    """`[batch, seq, head_dim]`."""
    sin: Tensor
    """Negative at the first of each pair, `[batch, seq, head_dim]`."""
    interleaved: bool
    """Whether pairs are neighbours `(2 j, 2 j + 1)`, as Meta stores them, instead of
    `(j, j + head_dim / 2)`, as Hugging Face does."""


class RotaryEmbedding(nn.Module):
    """Turns positions into the rotation that queries and keys undergo.

    Args:
        config: Has `head_dim` and `rope_parameters` that `check_rope_parameters` lets pass.
        interleaved: Layout of the pairs, as in `Rotation`.
    """

    inv_freq: Tensor
    original_inv_freq: Tensor

    def __init__(self, config: PreTrainedConfig, *, interleaved: bool = False) -> None:
        super().__init__()
        # transformers fills the buffers of a model made on meta by these names and this config.
        self.config, self.rope_type = config, config.rope_parameters["rope_type"]
        self.interleaved = interleaved
        inv_freq, self.attention_scaling = inverse_frequencies(config)
        self.register_buffer("inv_freq", inv_freq, persistent=False)
        self.register_buffer("original_inv_freq", inv_freq.clone(), persistent=False)

    @torch.no_grad()
    def forward(self, position_ids: Tensor, *, dtype: torch.dtype) -> Rotation:
        """The rotation at each of `position_ids` `[batch, seq]`, in `dtype`."""
        positions = position_ids[..., None]
        angles = torch.where(
            positions < FLOAT32_POSITIONS,
            positions.float() * self.inv_freq,
            (positions.double() * self.inv_freq.double() % (2 * math.pi)).float(),
        )  # [batch, seq, head_dim / 2]
        cos, sin = (wave * self.attention_scaling for wave in (angles.cos(), angles.sin()))
        return Rotation(
            self._pair(cos, cos).to(dtype), self._pair(-sin, sin).to(dtype), self.interleaved
        )

    def _pair(self, first: Tensor, second: Tensor) -> Tensor:
        """Values for both members of each pair, each `[..., head_dim / 2]`, in head order."""
        if self.interleaved:
            return torch.stack((first, second), dim=-1).flatten(-2)
        return torch.cat((first, second), dim=-1)

    @staticmethod
    def compute_default_rope_parameters(config: PreTrainedConfig) -> tuple[Tensor, float]:
        """`inverse_frequencies`, under the name by which transformers calls it."""
        return inverse_frequencies(config)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "RotaryEmbedding":
        """Move the frequencies, but never cast them: in bfloat16 neighbours would coincide."""
        exact = self.inv_freq, self.original_inv_freq
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.inv_freq.dtype != torch.float32:
            device = self.inv_freq.device
            self.inv_freq, self.original_inv_freq = (buffer.to(device) for buffer in exact)
        return self


def inverse_frequencies(config: PreTrainedConfig) -> tuple[Tensor, float]:
    """The angle of each pair per position, `[head_dim / 2]`, and the factor on the rotation."""
    rope_type = config.rope_parameters["rope_type"]
    if rope_type != "default":
        return ROPE_INIT_FUNCTIONS[rope_type](config)
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    return 1.0 / config.rope_parameters["rope_theta"] ** exponents, 1.0


def apply_rotary(x: Tensor, rotation: Rotation) -> Tensor:
    """`x` `[batch, heads, seq, head_dim]` with the pairs of each head rotated."""
    cos, sin = (part.unsqueeze(1).to(x.dtype) for part in (rotation.cos, rotation.sin))
    if rotation.interleaved:
        partners = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    else:
        partners = x.roll(x.shape[-1] // 2, dims=-1)
    return x * cos + partners * sin


def to_half_split(rows: Tensor, *, head_dim: int) -> Tensor:
    """The rows of an interleaved `q_proj` or `k_proj` in the half-split order.

    Args:
        rows: A weight `[heads * head_dim, hidden]` or a bias `[heads * head_dim]`.
    """
    return rows.unflatten(0, (-1, head_dim // 2, 2)).transpose(1, 2).reshape(rows.shape)


def to_interleaved(rows: Tensor, *, head_dim: int) -> Tensor:
    """The rows of a half-split `q_proj` or `k_proj` in the interleaved order."""
    return rows.unflatten(0, (-1, 2, head_dim // 2)).transpose(1, 2).reshape(rows.shape)
