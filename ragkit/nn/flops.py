"""FLOPs per token of a layer, by component, and the peak rate of a device.

A multiply-add counts 2 and the backward pass twice the forward (Kaplan et al. 2020,
arXiv:2001.08361, section 2.1). What is not a matrix product (norms, activations, softmax, rotary
embeddings, reading the embedding table) counts nothing, as in `torch.utils.flop_counter`. That
counter takes every query to read all keys: `mean_attended=seq_length` repeats its numbers.
"""

import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cache

import torch

TRAINING_OVER_FORWARD = 3
"""One forward and one backward pass, over the forward pass alone."""

# Tensor cores, fp16 and bf16 alike, without sparsity; the first part of a name that fits counts.
_DATA_SHEETS = (
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("H200", 989e12),
    ("B200", 2250e12),
    ("A100", 312e12),
    ("L40S", 362e12),
)
_MEASURED_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFlops:
    """FLOPs of one token in one direction or both, by component, summed over the layers.

    Args:
        attention_projections: Queries, keys, values and output.
        scores_and_values: Queries times keys, and attention weights times values.
        embeddings: Zero: a row is looked up, nothing is multiplied.
    """

    attention_projections: float
    scores_and_values: float
    mlp: float
    head: float
    embeddings: float = 0.0

    @property
    def total(self) -> float:
        """The sum of the components."""
        return sum(astuple(self))

    @property
    def training(self) -> "TokenFlops":
        """The forward and the backward pass, if this is the forward pass."""
        both = [TRAINING_OVER_FORWARD * flops for flops in astuple(self)]
        return TokenFlops(**dict(zip(self.__slots__, both, strict=True)))


def linear_flops(in_features: int, out_features: int) -> int:
    """Forward FLOPs per token of a matrix: the head, a router, a projection."""
    return 2 * in_features * out_features


def projection_flops(
    hidden_size: int, *, num_attention_heads: int, num_key_value_heads: int, head_dim: int
) -> int:
    """Forward FLOPs per token of the four projections of one attention layer."""
    heads = 2 * num_attention_heads + 2 * num_key_value_heads
    return linear_flops(hidden_size, heads * head_dim)


def attention_flops(mean_attended: float, *, num_attention_heads: int, head_dim: int) -> float:
    """Forward FLOPs per token of scores and values of one layer.

    Args:
        mean_attended: Keys that a query reads, on average; key and value heads that are shared
            save memory but no FLOPs.
    """
    return 4 * num_attention_heads * head_dim * mean_attended


def mlp_flops(hidden_size: int, intermediate_size: int, *, num_matrices: int = 3) -> int:
    """Forward FLOPs per token of one MLP: three matrices are SwiGLU, two have no gate."""
    return num_matrices * linear_flops(hidden_size, intermediate_size)


def causal_attended(lengths: Sequence[int], *, window: int | None = None) -> float:
    """Keys that a query reads, on average, where it sees itself and its past.

    Args:
        lengths: Tokens of the documents that do not see each other; one number for one text.
        window: Most keys that a query reads, itself included.
    """
    read = 0
    for length in lengths:
        growing = min(length, window or length)  # queries before the window is full
        read += growing * (growing + 1) // 2 + (length - growing) * growing
    return read / sum(lengths)


def peak_flops(device: torch.device | str, dtype: torch.dtype) -> float:
    """FLOPs per second that `device` can do in matrix products of `dtype`.

    The data sheet's figure for the tensor cores of well-known GPUs; else, and on every CPU, the
    best rate measured in a third of a second, once per process and number of threads.
    """
    place = torch.device(device)
    if place.type == "cuda" and dtype.itemsize == 2:
        name = torch.cuda.get_device_name(place)
        for part, rate in _DATA_SHEETS:
            if part in name and "MIG" not in name:
                return rate
    return _measure_peak(place, dtype, torch.get_num_threads())


@cache
def _measure_peak(device: torch.device, dtype: torch.dtype, _num_threads: int) -> float:
    size = 512 if device.type == "cpu" else 8192
    matrix = torch.ones(size, size, dtype=dtype, device=device)
    best, stop = float("inf"), time.perf_counter() + _MEASURED_S
    while best == float("inf") or time.perf_counter() < stop:
        started = time.perf_counter()
        # Reading one element waits for the device.
        torch.mm(matrix, matrix)[0, 0].item()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best
