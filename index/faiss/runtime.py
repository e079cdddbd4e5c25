"""Loads faiss and keeps its process-wide settings under control."""

import functools
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from types import ModuleType

from ragkit.errors import MissingDependencyError

WHEELS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs", "faiss-gpu-cu11", "faiss-gpu-cu12")


@functools.cache
def load() -> ModuleType:
    """The module `faiss`.

    Raises:
        MissingDependencyError: It is absent, cannot be loaded, or two wheels provide it.
    """
    wheels = installed_wheels()
    if len(wheels) > 1:
        raise MissingDependencyError(
            f"expected one wheel that provides faiss, found {' and '.join(wheels)}, which clash: "
            f"remove all but one: `pip uninstall -y {' '.join(wheels)}`, then "
            f"`pip install {wheels[-1]}`"
        )
    try:
        import faiss
    except ImportError as error:
        raise MissingDependencyError(
            "faiss is not installed: run `pip install 'ragkit[cpu]'`, or `pip install "
            "'ragkit[gpu]'` on a machine with CUDA"
        ) from error
    except RuntimeError as error:  # the GPU wheels look for the CUDA libraries on import
        raise MissingDependencyError(f"{' '.join(wheels)} cannot be loaded: {error}") from error
    return faiss


def installed_wheels() -> list[str]:
    """The installed distributions that provide the module `faiss`."""
    found = []
    for wheel in WHEELS:
        try:
            metadata.version(wheel)
        except metadata.PackageNotFoundError:
            continue
        found.append(wheel)
    return found


class openmp_threads:  # noqa: N801 - a context manager, used like a function
    """Lets faiss use `threads` threads when called from this thread, then restores.

    The setting belongs to the calling thread, but torch may share it (whichever of the two is
    imported first decides), so it never outlives a call.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def __enter__(self) -> None:
        faiss = load()
        self._before = faiss.omp_get_max_threads()
        if self._before != self._threads:
            faiss.omp_set_num_threads(self._threads)

    def __exit__(self, *_: object) -> None:
        if self._before != self._threads:
            load().omp_set_num_threads(self._before)


class _Blas:
    """Counts the calls that want matrix products; the last one out restores faiss's own rule."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: Counter[int] = Counter()
        self._default = 0

    def want(self, threshold: int) -> None:
        with self._lock:
            settings = load().cvar
            if not self._wanted:
                self._default = settings.distance_compute_blas_threshold
            self._wanted[threshold] += 1
            settings.distance_compute_blas_threshold = min(self._wanted)

    def release(self, threshold: int) -> None:
        with self._lock:
            self._wanted -= Counter([threshold])
            settings = load().cvar
            settings.distance_compute_blas_threshold = min(self._wanted, default=self._default)


_blas = _Blas()


@contextmanager
def matrix_products_from(num_queries: int, *, dim: int) -> Iterator[None]:
    """Lets faiss compare by matrix products as soon as a call has `num_queries` queries.

    faiss's own rule, a setting of the whole process, waits until queries times dim reach 128,000.
    Smaller batches that other threads run at the same time keep the other path, because the
    rule is set to just this batch and not to "always".
    """
    threshold = num_queries * dim
    _blas.want(threshold)
    try:
        yield
    finally:
        _blas.release(threshold)
