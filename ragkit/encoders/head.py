"""From token states to one vector per text: pooling, dense layers, truncation, normalisation."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from ragkit.encoders.layout import Layout, PoolingMode, read_object
from ragkit.errors import CheckpointError, ConfigError

_ACTIVATIONS = {
    "torch.nn.modules.linear.Identity": nn.Identity,
    "torch.nn.modules.activation.Tanh": nn.Tanh,
    "torch.nn.modules.activation.GELU": nn.GELU,
    "torch.nn.modules.activation.ReLU": nn.ReLU,
    "torch.nn.modules.activation.SiLU": nn.SiLU,
}


class Head(nn.Module):
    """Everything after the backbone, in fp32 whatever the backbone's precision.

    Args:
        hidden_size: Width of a token state.
        dim: Width of the vectors; fewer than the model's own keeps the first ones (Matryoshka
            representations, Kusupati et al. 2022, arXiv:2205.13147).

    Raises:
        ConfigError: The model's own width is below `dim`, or a dense layer is of an unknown kind.
    """

    def __init__(self, layout: Layout, *, hidden_size: int, dim: int | None = None) -> None:
        super().__init__()
        self._modes, self.normalize = layout.pooling, layout.normalize
        self.projections = nn.Sequential(*map(_load_projection, layout.projections))
        sizes = [m.out_features for m in self.projections.modules() if isinstance(m, nn.Linear)]
        self.native_dim = sizes[-1] if sizes else hidden_size * len(layout.pooling)
        self.truncate_dim = dim or layout.truncate_dim
        self.dim = self.truncate_dim or self.native_dim
        if not 0 < self.dim <= self.native_dim:
            raise ConfigError(
                f"the model's vectors have {self.native_dim} dimensions, got dim={self.dim}: "
                "give fewer or leave dim out"
            )

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Vectors `[batch, dim]` of states `[batch, seq, hidden]` and mask `[batch, seq]`."""
        vectors = self.projections(pool(states.float(), mask, modes=self._modes))[:, : self.dim]
        return F.normalize(vectors, dim=-1) if self.normalize else vectors


def pool(states: Tensor, mask: Tensor, *, modes: Sequence[PoolingMode]) -> Tensor:
    """One vector per text, `[batch, hidden * modes]`, of right-padded `[batch, seq, hidden]`."""
    weights = mask.to(states.dtype)  # [batch, seq]
    counts = weights.sum(1, keepdim=True)  # [batch, 1]
    pooled: list[Tensor] = []
    for mode in modes:
        if mode == "cls":
            pooled.append(states[:, 0])
        elif mode == "lasttoken":
            last = counts.long()[:, 0] - 1
            pooled.append(states[torch.arange(len(states), device=states.device), last])
        elif mode == "max":
            pooled.append(states.masked_fill(~mask.unsqueeze(-1), float("-inf")).amax(1))
        elif mode == "weightedmean":  # a later token has read more (SGPT, arXiv:2202.08904)
            ranks = weights.cumsum(1) * weights
            pooled.append(_weigh(states, ranks) / ranks.sum(1, keepdim=True))
        else:
            divisor = counts if mode == "mean" else counts.sqrt()
            pooled.append(_weigh(states, weights) / divisor)
    return torch.cat(pooled, dim=-1)


def _weigh(states: Tensor, weights: Tensor) -> Tensor:
    """`[batch, seq, hidden]` summed over `seq` with `[batch, seq]` weights."""
    return torch.bmm(weights.unsqueeze(1), states).squeeze(1)


def _load_projection(folder: Path) -> nn.Sequential:
    config = read_object(folder / "config.json")
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if activation not in _ACTIVATIONS or config.get("use_residual"):
        raise ConfigError(
            f"the dense layer {folder.name} uses {activation} with use_residual="
            f"{config.get('use_residual', False)}, expected one of {sorted(_ACTIVATIONS)} without "
            "a residual: choose another model"
        )
    try:
        linear = nn.Linear(
            config["in_features"], config["out_features"], bias=config.get("bias", True)
        )
        weights = load_file(folder / "model.safetensors")
        linear.load_state_dict({name.removeprefix("linear."): w for name, w in weights.items()})
    except (KeyError, OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"the dense layer {folder} cannot be read ({error}): fetch the model again, with "
            "model.safetensors in it"
        ) from error
    return nn.Sequential(linear, _ACTIVATIONS[activation]())
