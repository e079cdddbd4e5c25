"""An approximate index: built from vectors, written to a file, mapped, searched from any thread."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import ConfigError, IndexCorruptError, ShapeError
from ragkit.index.exact import Found, no_hits, rescore
from ragkit.index.faiss import files, gpu, train
from ragkit.index.faiss.knn import products_for
from ragkit.index.faiss.probe import resolve_device
from ragkit.index.faiss.runtime import load, openmp_threads
from ragkit.index.faiss.structure import Kind, faiss_metric, inspect, make_index
from ragkit.index.threads import resolve_threads, run_all
from ragkit.index.vectors import Vectors
from ragkit.types import Metric

QUERIES_PER_TASK = 64
"""Batches are cut here whatever the number of threads, so that results do not depend on it."""


class AnnIndex:
    """A trained faiss index; row `i` is the `i`-th vector it was built from.

    Args:
        index: Any faiss index that numbers its rows from 0.
    """

    def __init__(self, index: Any) -> None:  # noqa: ANN401
        self.index = index
        self.structure = inspect(index)
        self._larger_is_better = index.metric_type != faiss_metric("l2")

    @classmethod
    def build(
        cls,
        factory: str,
        vectors: Vectors,
        *,
        metric: Metric,
        seed: int,
        threads: int | None = None,
        device: str = "cpu",
        deterministic: bool = False,
    ) -> "AnnIndex":
        """The index that `factory` describes, trained on a sample of `vectors` and filled with all.

        Args:
            factory: A faiss factory string.
            device: `cpu`; `cuda` or `cuvs`, with device numbers as in `cuda:0,1`; or `auto`.
            deterministic: Whether the result must not depend on `threads`; slower for graphs.

        Raises:
            ConfigError: The factory string does not fit the vectors.
            StorageError: The device was asked for and cannot be used.
        """
        threads = resolve_threads(threads)
        index = make_index(factory, vectors.dim, metric=metric)
        gpus = resolve_device(device)
        if gpus is not None and deterministic:
            raise ConfigError(f"{gpus} cannot repeat a build exactly: use the faiss device cpu")
        if gpus is not None:
            return cls(gpu.build(index, vectors, seed=seed, threads=threads, gpus=gpus))
        train.train(index, vectors, seed=seed, threads=threads, deterministic=deterministic)
        train.add(index, vectors, threads=threads, deterministic=deterministic)
        return cls(index)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        mmap: bool = True,
        expect_dim: int | None = None,
        expect_rows: int | None = None,
        expect_metric: Metric | None = None,
    ) -> "AnnIndex":
        """The index at `path`, mapped where its type allows it.

        Raises:
            IndexCorruptError: The file is damaged or not the index that is expected.
        """
        files.check_header(path, dim=expect_dim, rows=expect_rows, metric=expect_metric)
        return cls(files.read_index(path, mmap=mmap))

    def write(self, file: BinaryIO) -> None:
        """Write to an open file; its `OSError` comes through."""
        files.write_index(self.index, file)

    @property
    def kind(self) -> Kind:
        """The family, which decides the search parameters."""
        return self.structure.kind

    @property
    def ntotal(self) -> int:
        """Number of rows."""
        return int(self.index.ntotal)

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return int(self.index.d)

    @property
    def metric(self) -> Metric:
        """`ip` (which cosine is, for vectors of length 1) or `l2`."""
        return "ip" if self._larger_is_better else "l2"

    @property
    def parameters(self) -> dict[str, int]:
        """The search parameters that `search` takes, each with its largest useful value."""
        return self.structure.parameters

    def search(
        self,
        queries: NDArray[np.float32],
        *,
        k: int,
        params: Mapping[str, int] | None = None,
        threads: int | None = None,
        vectors: Vectors | None = None,
    ) -> Found:
        """Scores and rows, both `[queries, min(k, rows)]`, best first; larger scores are better.

        Slots that the index could not fill hold row -1 and score -inf.

        Args:
            queries: `[queries, dim]`.
            params: Some of `parameters`; faiss's own value where one is left out.
            vectors: The vectors the index was built from. An index that keeps less than them
                then finds `refine_factor` times `k` rows and scores those exactly.

        Raises:
            ConfigError: `k` is below 1, or a parameter is unknown or out of range.
            IndexCorruptError: The index returned a row that it cannot have.
        """
        self._check(queries, k, params or {})
        queries = np.ascontiguousarray(queries, np.float32)
        search = functools.partial(
            self._search_part,
            k=min(k, self.ntotal),
            params=dict(params or {}),
            vectors=vectors if self.structure.lossy else None,
        )
        starts = range(0, len(queries), QUERIES_PER_TASK)
        parts = [queries[start : start + QUERIES_PER_TASK] for start in starts]
        tasks = [functools.partial(search, part) for part in parts]
        if not tasks or not self.ntotal:
            return no_hits(len(queries), min(k, self.ntotal))
        found = run_all(tasks, threads=resolve_threads(threads))
        return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])

    def _search_part(
        self,
        queries: NDArray[np.float32],
        *,
        k: int,
        params: dict[str, int],
        vectors: Vectors | None,
    ) -> Found:
        fetch = k if vectors is None else min(k * params.get("refine_factor", 1), self.ntotal)
        # Distances lose digits in products: right for the choice of lists, wrong for hits.
        batch = len(queries) if self._larger_is_better or self.kind == "ivf" else 1
        with openmp_threads(1), products_for(batch, dim=self.dim):
            scores, rows = self.index.search(queries, fetch, params=self._faiss_params(params))
        if rows.size and rows.max() >= self.ntotal:
            raise IndexCorruptError(
                f"the index has {self.ntotal} rows but returned row {rows.max()}: "
                "run `ragkit index verify`, then rebuild it"
            )
        if vectors is not None:
            scores, rows = rescore(vectors, queries, rows, metric=self.metric)
            return scores[:, :k], rows[:, :k]
        scores = scores if self._larger_is_better else 0.0 - scores
        return np.where(rows < 0, np.float32(-np.inf), scores), rows

    def _faiss_params(self, params: Mapping[str, int]) -> Any:  # noqa: ANN401
        """The object that faiss wants for one call, nested as the index is."""
        faiss = load()
        found = None
        if "nprobe" in params:
            found = faiss.SearchParametersIVF(nprobe=params["nprobe"])
            if self.structure.graph_over_lists:
                # The graph must be able to return that many lists.
                ef = faiss.SearchParametersHNSW(efSearch=max(64, 2 * params["nprobe"]))
                found.quantizer_params = ef
                found.keep_alive = ef  # the field holds a bare pointer
        elif "efSearch" in params:
            found = faiss.SearchParametersHNSW(efSearch=params["efSearch"])
        if self.structure.transformed and found is not None:
            found = faiss.SearchParametersPreTransform(index_params=found)
        if self.structure.refines:
            factor = params.get("refine_factor", 1)
            found = faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=found)
        return found

    def _check(self, queries: NDArray[np.float32], k: int, params: Mapping[str, int]) -> None:
        if k < 1:
            raise ConfigError(f"k must be at least 1, got {k}")
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ShapeError(
                f"queries must be [queries, {self.dim}], got {queries.shape}: embed them with the "
                "encoder of the index"
            )
        for name, value in params.items():
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise ConfigError(f"{name!r} is no search parameter of this index; it has: {known}")
            if not 1 <= value <= self.parameters[name]:
                raise ConfigError(
                    f"{name} must lie between 1 and {self.parameters[name]}, got {value}"
                )
