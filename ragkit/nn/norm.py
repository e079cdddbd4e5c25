"""Root mean square normalisation (Zhang and Sennrich 2019, arXiv:1910.07467, section 4)."""

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Scales each vector to unit root mean square, in float32, then by a learned weight.

    Args:
        hidden_size: Width of the vectors.
        eps: Added to the mean square.
    """

    def __init__(self, hidden_size: int, *, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of `x`; shape and dtype stay."""
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * (wide * scale).to(x.dtype)

    def extra_repr(self) -> str:
        """Width and epsilon."""
        return f"{self.weight.numel()}, eps={self.eps}"
