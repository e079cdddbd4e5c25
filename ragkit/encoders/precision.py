"""Which devices and which number format an encoder runs on."""

import platform
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from ragkit.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16"]

TORCH_DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
_BF16_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}


def parse_devices(device: str) -> list[torch.device]:
    """The devices that `auto`, `cpu`, `cuda`, `cuda:1` or `cuda:0,1` names; at least one.

    Raises:
        ConfigError: The name is malformed, or this machine lacks such a device.
    """
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return [torch.device("cuda", i) for i in range(num_gpus)] or [torch.device("cpu")]
    kind, _, numbers = device.partition(":")
    try:
        found = [torch.device(kind, int(i)) for i in numbers.split(",")] if numbers else []
        found = found or [torch.device(kind)]
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"no device {device!r}: give auto, cpu, cuda, cuda:1 or cuda:0,1"
        ) from error
    if kind == "cuda" and max(d.index or 0 for d in found) >= num_gpus:
        raise ConfigError(
            f"{device!r} asks for a GPU that is not there ({num_gpus} found): give auto"
        )
    return found


def choose_precision(dtype: str, device: torch.device) -> Precision:
    """The number format for `auto`: bf16 where the device multiplies it natively, else fp32.

    Raises:
        ConfigError: `dtype` is unknown.
    """
    if dtype == "auto":
        if device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "fp32"
    for precision in TORCH_DTYPES:
        if dtype == precision:
            return precision
    raise ConfigError(f"dtype must be auto or one of {', '.join(TORCH_DTYPES)}, got {dtype!r}")


def store_linears(model: nn.Module, precision: Precision) -> None:
    """Keep the weights of the linear layers of `model` in `precision`, in place.

    Autocast casts them at every call otherwise. Embeddings, norms and, since autocast adds in the
    wider type, the residual stream stay in fp32: a model cast as a whole is 2.5 times further from
    fp32 and hardly faster.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.to(TORCH_DTYPES[precision])


def compute_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """A context in which matrix products and attention run in `precision`."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, TORCH_DTYPES[precision])


def _cpu_has_bf16() -> bool:
    # oneDNN runs bf16 on any AVX-512 machine, but below these flags it emulates it slowly.
    info = Path("/proc/cpuinfo")
    if platform.system() != "Linux" or not info.is_file():
        return False
    for line in info.read_text(encoding="utf-8").splitlines():
        if line.startswith("flags"):
            return bool(_BF16_CPU_FLAGS & set(line.split()))
    return False
