"""How many threads a search may use, and the workers that run its pieces."""

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ragkit.errors import ConfigError

T = TypeVar("T")

TOPOLOGY = Path("/sys/devices/system/cpu")


def resolve_threads(threads: int | None) -> int:
    """`threads`, or `RAGKIT_THREADS`, or the physical cores this process may run on.

    Raises:
        ConfigError: The number is not at least 1.
    """
    if threads is None:
        given = os.environ.get("RAGKIT_THREADS", "")
        if not given:
            return physical_cores()
        if not given.isdecimal():
            raise ConfigError(f"RAGKIT_THREADS must be a whole number, got {given!r}: unset it")
        threads = int(given)
    if threads < 1:
        raise ConfigError(f"threads must be at least 1, got {threads}: leave it out for all cores")
    return threads


@functools.cache
def physical_cores() -> int:
    """Cores that this process may run on; two hardware threads of one core count once."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    return len({_core(cpu) for cpu in os.sched_getaffinity(0)})


def run_all(tasks: Sequence[Callable[[], T]], *, threads: int) -> list[T]:
    """The results of `tasks`, in order; in the calling thread if one thread is enough."""
    if threads == 1 or len(tasks) == 1:
        return [task() for task in tasks]
    return list(_workers(threads).map(lambda task: task(), tasks))


def _core(cpu: int) -> tuple[str, str]:
    """Which physical core a logical CPU belongs to; itself where the kernel does not say."""
    folder = TOPOLOGY / f"cpu{cpu}" / "topology"
    try:
        return (folder / "physical_package_id").read_text(), (folder / "core_id").read_text()
    except OSError:
        return "cpu", str(cpu)


@functools.cache
def _workers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="ragkit-search")


if hasattr(os, "register_at_fork"):
    # The threads of a pool do not survive a fork, only its book-keeping does.
    os.register_at_fork(after_in_child=_workers.cache_clear)
