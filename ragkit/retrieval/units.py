"""Sizes and durations as people write them."""

import os
import re
from pathlib import Path

from ragkit.errors import ConfigError

_SIZES = {"": 0, "B": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: str) -> int:
    """Bytes of `16G`, `16GiB` or `512M` (powers of 1024).

    Raises:
        ConfigError: The text is no size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise ConfigError(f"expected a size such as 16G or 512MiB, got {text!r}")
    return int(float(found[1]) * (1 << _SIZES[found[2].upper()]))


def parse_duration(text: str) -> float:
    """Seconds of `50ms`, `30s`, `5m` or `2h`.

    Raises:
        ConfigError: The text is no duration.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)", text.strip())
    if found is None:
        raise ConfigError(f"expected a duration such as 50ms, 30s or 2h, got {text!r}")
    return float(found[1]) * _SECONDS[found[2]]


def available_bytes() -> int:
    """Memory that can be had without swapping; half of all where the system does not say."""
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def format_size(size_bytes: int) -> str:
    """`size_bytes` in the largest unit that leaves at least 1."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
