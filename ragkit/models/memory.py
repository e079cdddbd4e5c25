"""Says so when memory gives out, on whatever device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ragkit.errors import StorageError

_CPU_ALLOCATOR = "DefaultCPUAllocator"
"""What the plain RuntimeError names with which torch says that the CPU's memory gave out."""


@contextmanager
def memory_errors(device: torch.device, *, mend: str) -> Iterator[None]:
    """Turn a lack of memory within the block into a StorageError that says what to lower.

    Args:
        device: Where the block computes, for the message.
        mend: What to do, for the message.

    Raises:
        StorageError: The memory gave out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_lack_of_memory(error):
            raise
        raise StorageError(f"{device} ran out of memory: {mend}") from error


def _is_lack_of_memory(error: RuntimeError | MemoryError) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or _CPU_ALLOCATOR in str(error)
