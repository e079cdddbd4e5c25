"""Loads faiss, and keeps its process-wide settings and its chatter under control."""

import functools
import importlib
import logging
import os
import re
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from types import ModuleType
from typing import IO

from ragkit.errors import MissingDependencyError

WHEELS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs", "faiss-gpu-cu11", "faiss-gpu-cu12")

logger = logging.getLogger(__name__)


@functools.cache
def load() -> ModuleType:
    """The module `faiss`.

    Raises:
        MissingDependencyError: It is absent, cannot be loaded, or two wheels provide it.
    """
    wheels = installed_wheels()
    if len(wheels) > 1:
        raise MissingDependencyError(
            f"expected one wheel that provides faiss, found {' and '.join(wheels)}, which overwrite "
            f"each other: run `pip uninstall -y {' '.join(wheels)}`, then `pip install {wheels[-1]}`"
        )
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise MissingDependencyError(
            "faiss is not installed: run `pip install 'ragkit[cpu]'`, or `pip install "
            "'ragkit[gpu]'` on a machine with CUDA"
        ) from error
    except RuntimeError as error:  # the GPU wheels look for the CUDA libraries on import
        raise MissingDependencyError(f"{' '.join(wheels)} cannot be loaded: {error}") from error


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


@contextmanager
def openmp_threads(threads: int) -> Iterator[None]:
    """Lets faiss use `threads` threads when called from this thread, then restores.

    The setting belongs to the calling thread, but torch may share it (whichever of the two is
    imported first decides), so it never outlives a call.
    """
    faiss = load()
    before = faiss.omp_get_max_threads()
    if before == threads:
        yield
        return
    faiss.omp_set_num_threads(threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


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


class _Chatter:
    """Redirects file descriptor 2 while at least one caller wants silence."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callers = 0
        self._saved = -1
        self._caught: IO[bytes] | None = None
        self._python: tuple[IO[str], IO[str]] | None = None

    def begin(self) -> None:
        with self._lock:
            self._callers += 1
            if self._callers == 1:
                self._redirect()

    def end(self) -> None:
        with self._lock:
            self._callers -= 1
            if self._callers == 0 and self._caught is not None:
                self._restore(self._caught)

    def _redirect(self) -> None:
        try:
            self._saved = os.dup(2)
        except OSError:  # the program has closed its stderr: nothing to protect
            return
        self._caught = tempfile.TemporaryFile()
        if _is_stderr(sys.stderr):
            # Progress bars and logs of Python are not chatter: they keep the terminal.
            direct = os.fdopen(os.dup(self._saved), "w", buffering=1, encoding=sys.stderr.encoding)
            self._python = (sys.stderr, direct)
            sys.stderr.flush()
            sys.stderr = direct
        os.dup2(self._caught.fileno(), 2)

    def _restore(self, caught: IO[bytes]) -> None:
        os.dup2(self._saved, 2)
        os.close(self._saved)
        if self._python is not None:
            original, direct = self._python
            if sys.stderr is direct:
                sys.stderr = original
            direct.close()
        caught.seek(0)
        _summarise(caught.read().decode(errors="replace"))
        caught.close()
        self._caught = self._python = None


_chatter = _Chatter()


@contextmanager
def capture_stderr() -> Iterator[None]:
    """Catches what C++ code writes to stderr, and logs one line for each kind of message."""
    _chatter.begin()
    try:
        yield
    finally:
        _chatter.end()


def _is_stderr(stream: IO[str] | None) -> bool:
    try:
        return stream is not None and stream.fileno() == 2
    except (OSError, ValueError):  # a test harness or notebook has put something else there
        return False


def _summarise(text: str) -> None:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kinds = Counter(re.sub(r"\d+", "#", line) for line in lines)
    examples = {re.sub(r"\d+", "#", line): line for line in reversed(lines)}
    for kind, count in kinds.items():
        logger.info("faiss wrote, %d times: %s", count, examples[kind])
