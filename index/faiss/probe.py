"""Tries the GPUs in a child process: a wheel without kernels for a card aborts the process."""

import logging
import subprocess
import sys
from dataclasses import dataclass

from ragkit.errors import ConfigError, StorageError
from ragkit.index.faiss.runtime import installed_wheels, load

TRIAL_ROWS = 1_000
TRIAL_DIM = 32
TRIAL_LISTS = 8
TIMEOUT_S = 120.0
"""Compiling kernels for a new card on first use may take a minute."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Gpus:
    """Which CUDA devices to use, and whether through cuVS.

    Args:
        devices: Their numbers; empty for all.
    """

    cuvs: bool
    devices: tuple[int, ...] = ()

    def __str__(self) -> str:
        numbers = ",".join(map(str, self.devices))
        return ("cuvs" if self.cuvs else "cuda") + (f":{numbers}" if numbers else "")


def parse_device(device: str) -> Gpus | None:
    """The GPUs that `cuda`, `cuvs`, `cuda:0,1` name; `None` for `cpu`.

    Raises:
        ConfigError: The name is none of these.
    """
    kind, _, numbers = device.partition(":")
    listed = numbers.split(",") if numbers else []
    if device == "cpu":
        return None
    if kind not in ("cuda", "cuvs") or not all(number.isdecimal() for number in listed):
        raise ConfigError(
            f"the faiss device must be auto, cpu, cuda or cuvs, the last two with numbers as in "
            f"cuda:0,1, got {device!r}"
        )
    return Gpus(kind == "cuvs", tuple(map(int, listed)))


def resolve_device(device: str) -> Gpus | None:
    """The GPUs to use, after a trial; `None` for the CPU.

    `auto` takes the GPUs where the installed wheel has any code for them and they work, and
    says so where they do not.

    Raises:
        StorageError: GPUs are asked for by name and do not work.
    """
    if device == "auto":
        wheels = [wheel for wheel in installed_wheels() if "gpu" in wheel]
        if not wheels:
            return None
        gpus = Gpus(cuvs=any("cuvs" in wheel for wheel in wheels))
        fault = find_fault(gpus)
        if fault:
            logger.warning("faiss cannot use the GPU (%s): building on the CPU instead", fault)
        return None if fault else gpus
    gpus_asked = parse_device(device)
    if gpus_asked is not None and (fault := find_fault(gpus_asked)):
        raise StorageError(
            f"expected faiss to work on {device}, found: {fault}: install a faiss-gpu wheel that "
            "fits the card and its driver, or use the faiss device cpu"
        )
    return gpus_asked


def find_fault(gpus: Gpus, *, timeout_s: float = TIMEOUT_S) -> str:
    """Why `gpus` cannot be used, found by a child process; empty if they work."""
    code = f"from ragkit.index.faiss.probe import try_gpus; try_gpus({str(gpus)!r})"
    try:
        child = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {timeout_s:.0f} s"
    if child.returncode == 0:
        return ""
    lines = child.stderr.decode(errors="replace").strip().splitlines()
    ended = f"signal {-child.returncode}" if child.returncode < 0 else f"exit {child.returncode}"
    return f"{ended}: {lines[-1].strip()}" if lines else ended


def try_gpus(device: str) -> None:
    """Train, fill and search a small index on each device; runs in the child process.

    Raises:
        StorageError: There is no such device.
    """
    import numpy as np

    faiss, gpus = load(), parse_device(device)
    found = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    numbers = list(gpus.devices) if gpus and gpus.devices else list(range(found))
    if not numbers or max(numbers) >= found:
        raise StorageError(f"{device} is not there: faiss sees {found} CUDA devices")
    rows = np.random.default_rng(0).standard_normal((TRIAL_ROWS, TRIAL_DIM), dtype=np.float32)
    for number in numbers:
        resources = faiss.StandardGpuResources()
        options = faiss.GpuClonerOptions()
        options.use_cuvs = bool(gpus and gpus.cuvs)
        index = faiss.index_factory(TRIAL_DIM, f"IVF{TRIAL_LISTS},Flat")
        on_gpu = faiss.index_cpu_to_gpu(resources, number, index, options)
        on_gpu.train(rows)
        on_gpu.add(rows)
        found_rows = on_gpu.search(rows[:1], 1)[1]
        if found_rows[0, 0] != 0:
            raise StorageError(f"device {number} did not find a vector that it was given")
