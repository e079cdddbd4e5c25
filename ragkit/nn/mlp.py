"""The gated feed-forward layer SwiGLU (Shazeer 2020, arXiv:2002.05202, section 2)."""

from torch import Tensor, nn
from torch.nn import functional as F


class SwiGLU(nn.Module):
    """`down_proj(silu(gate_proj(x)) * up_proj(x))`.

    Args:
        hidden_size: Width of the residual stream.
        intermediate_size: Width of the gated product.
        bias: Whether the three projections have one.
    """

    def __init__(self, hidden_size: int, *, intermediate_size: int, bias: bool = False) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=bias)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=bias)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each vector of `x` `[..., hidden]`; the shape stays."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
