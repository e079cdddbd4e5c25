"""Which index type suits a number of vectors: exact while that is fast, then graphs, lists, codes.

The rules follow the published guidance of FAISS (https://github.com/facebookresearch/faiss/wiki,
"Guidelines to choose an index") with costs measured on one core; tuning and the recall check decide
whether the choice holds, and the runners-up are what is tried next.
"""

import math
import time
from dataclasses import dataclass, replace

import numpy as np

from ragkit.types import Metric

EXACT = "exact"

MIN_APPROXIMATE_ROWS = 10_000
MIN_ROWS_PER_LIST = 30
MAX_GRAPH_ROWS = 5_000_000

FP32_BYTES = 4
# Measured on one core: fp16 or int8 widened in registers by the pass of a single query, and for
# l2 decoded into a buffer on the way from memory to the comparison.
WIDENED_VALUES_PER_S = 5e9
DECODED_VALUES_PER_S = 2e9
# Measured on one core: a link list and level of one row of HNSW32, and its insertion at efC 64.
GRAPH_BYTES_PER_ROW = 280
GRAPH_BUILD_S_PER_VALUE = 0.54e-3 / 384
LIST_BYTES_PER_ROW = 8
CODE_BITS = 4
VALUES_PER_CODE = 4
# k-means, assignment and coding run at about this many products a second on one core.
FLOPS = 5e10
TRAINING_ROWS_PER_LIST = 100
TRAINING_ROUNDS = 10
# Of a search in lists or a graph, about this share of the rows is compared.
VISITED_SHARE = 0.02
PROBE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class AnnChoice:
    """An index type and what it is estimated to cost.

    Args:
        factory: `exact`, or a FAISS factory string.
        reason: Why, in a few words.
        size_bytes: Size of the FAISS index, beyond the vectors that are kept anyway.
        build_s: Training and filling, on one core.
        latency_s: One query, on one thread.
        runners_up: What to try next, in order, if this one misses the recall.
    """

    factory: str
    reason: str
    size_bytes: int
    build_s: float
    latency_s: float
    runners_up: tuple["AnnChoice", ...] = ()


def choose_ann(
    num_rows: int,
    dim: int,
    *,
    metric: Metric,
    bytes_per_value: int,
    memory_bytes: int,
    latency_s: float,
    bandwidth: float,
    max_build_s: float,
) -> AnnChoice:
    """The index type for `num_rows` vectors, with the types to fall back on.

    Args:
        bytes_per_value: Of the vectors as they are kept.
        memory_bytes: What the index may take when it is served.
        latency_s: What one query may take on one thread.
        bandwidth: Bytes a second that one thread reads.
        max_build_s: What training and filling may take on one core.
    """
    exact = _exact(num_rows, dim, metric, bytes_per_value, bandwidth)
    if num_rows < MIN_APPROXIMATE_ROWS:
        return replace(exact, reason=f"fewer than {MIN_APPROXIMATE_ROWS} vectors")
    if exact.latency_s <= latency_s and num_rows * dim * bytes_per_value <= memory_bytes:
        return replace(exact, reason=f"a full scan takes {1e3 * exact.latency_s:.1f} ms")
    candidates = [
        choice
        for choice in (
            _graph(num_rows, dim, bandwidth),
            _lists(num_rows, dim, "Flat", 4.0 * dim, bandwidth),
            _lists(num_rows, dim, "SQ8", 1.0 * dim, bandwidth),
            _codes(num_rows, dim, metric, bandwidth),
        )
        if choice is not None
        and choice.size_bytes <= memory_bytes
        and choice.build_s <= max_build_s
        and (num_rows <= MAX_GRAPH_ROWS or not choice.factory.startswith("HNSW"))
    ]
    if not candidates:
        return replace(exact, reason="no approximate index fits the memory and the build time")
    first, *others = candidates
    return replace(first, runners_up=(*others, replace(exact, reason="always right")))


def measure_bandwidth() -> float:
    """Bytes a second that one thread reads from memory, in about a tenth of a second."""
    values = np.ones(PROBE_BYTES // 8, np.int64)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        values.max()
        seconds.append(time.perf_counter() - started)
    return PROBE_BYTES / min(seconds)


def num_lists(num_rows: int) -> int:
    """Inverted lists for so many rows: a power of two, never with too few rows to train each."""
    if num_rows < 1_000_000:
        wanted = 2 ** round(math.log2(4 * math.sqrt(num_rows)))
    elif num_rows < 10_000_000:
        wanted = 16_384 if num_rows < 3_000_000 else 65_536
    elif num_rows < 300_000_000:
        wanted = 65_536 if num_rows < 50_000_000 else 262_144
    else:
        wanted = 2**20
    most = max(1, num_rows // MIN_ROWS_PER_LIST)
    return min(wanted, 2 ** int(math.log2(most)))


def _exact(
    num_rows: int, dim: int, metric: Metric, bytes_per_value: int, bandwidth: float
) -> AnnChoice:
    values = num_rows * dim
    scan_s = values * bytes_per_value / bandwidth
    if bytes_per_value < FP32_BYTES and metric == "l2":
        scan_s += values / DECODED_VALUES_PER_S
    elif bytes_per_value < FP32_BYTES:
        scan_s = max(scan_s, values / WIDENED_VALUES_PER_S)
    return AnnChoice(EXACT, "asked for", 0, 0.0, scan_s)


def _graph(num_rows: int, dim: int, bandwidth: float) -> AnnChoice:
    return AnnChoice(
        "HNSW32,Flat",
        "a graph fits the memory",
        num_rows * (4 * dim + GRAPH_BYTES_PER_ROW),
        num_rows * dim * GRAPH_BUILD_S_PER_VALUE,
        # A graph visits rows one by one, from random places: each costs about ten times its bytes.
        10 * 20 * math.log2(num_rows) * 4 * dim / bandwidth,
    )


def _lists(
    num_rows: int, dim: int, coding: str, bytes_per_row: float, bandwidth: float
) -> AnnChoice:
    lists = num_lists(num_rows)
    return AnnChoice(
        f"{_coarse(lists)},{coding}",
        f"lists of {coding} fit the memory",
        int(num_rows * (bytes_per_row + LIST_BYTES_PER_ROW) + 4 * lists * dim),
        _list_build_s(num_rows, dim, lists),
        (VISITED_SHARE * num_rows * bytes_per_row + 4 * lists * dim) / bandwidth,
    )


def _codes(num_rows: int, dim: int, metric: Metric, bandwidth: float) -> AnnChoice | None:
    """Four-bit codes of four values each; `None` if the width cannot be cut into fours."""
    if dim % VALUES_PER_CODE:
        return None
    codes = dim // VALUES_PER_CODE
    choice = _lists(num_rows, dim, f"PQ{codes}x{CODE_BITS}fs", codes * CODE_BITS / 8, bandwidth)
    return replace(choice, reason="only codes fit the memory; the best are scored again exactly")


def _coarse(lists: int) -> str:
    """Lists are found by a graph once comparing with all their centres is slow."""
    return f"IVF{lists}_HNSW32" if lists > 2**17 else f"IVF{lists}"


def _list_build_s(num_rows: int, dim: int, lists: int) -> float:
    trained = min(num_rows, TRAINING_ROWS_PER_LIST * lists)
    return 2 * dim * lists * (TRAINING_ROUNDS * trained + num_rows) / FLOPS
