"""An opened index: one generation, mapped, searched by vector."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ragkit.errors import ConfigError, IndexStateError, ShapeError
from ragkit.index.exact import search_exact
from ragkit.index.layout import Layout
from ragkit.index.manifest import Manifest, read_current
from ragkit.index.merge import merge_hits
from ragkit.index.segment import Segment, open_segment
from ragkit.index.verify import raise_faults, verify_index
from ragkit.types import Metric, Passage

Verify = Literal["off", "fast", "full"]


@dataclass(frozen=True)
class Index:
    """The passages and vectors of one generation; safe to share between threads.

    Args:
        manifest: What was published.
        segments: In the order of their first row.
    """

    path: Path
    manifest: Manifest
    segments: tuple[Segment, ...]

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        mmap: bool = True,
        verify: Verify = "fast",
        generation: int | None = None,
    ) -> "Index":
        """The index at `path`; of files that are mapped only what `verify` asks for is read now.

        Args:
            mmap: Map the files instead of reading them into memory.
            verify: `fast` compares sizes, row counts and the hashes of files of up to 16 MiB,
                which it reads whole; `full` reads every byte; `off` hashes only what says how to
                read the rest.
            generation: An older one that is still there, instead of the current.

        Raises:
            ConfigError: There is no index at `path`.
            IndexStateError: Nothing is published, or a newer ragkit wrote it.
            IndexCorruptError: A file is missing or damaged.
        """
        if verify not in get_args(Verify):
            raise ConfigError(
                f"verify must be one of {', '.join(get_args(Verify))}, got {verify!r}"
            )
        layout = Layout(Path(path).absolute())
        if verify == "full":
            raise_faults(verify_index(layout.root, generation=generation))
        manifest = read_current(layout, generation=generation)
        metric = cast(Metric, manifest.metric)
        segments = tuple(
            open_segment(layout.root, entry, metric=metric, mmap=mmap, hash_small=verify == "fast")
            for entry in manifest.segments
        )
        return cls(layout.root, manifest, segments)

    def __len__(self) -> int:
        return sum(segment.rows for segment in self.segments)

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self.manifest.dim

    @property
    def metric(self) -> Metric:
        """How queries and vectors are compared."""
        return cast(Metric, self.manifest.metric)

    @property
    def is_exact(self) -> bool:
        """Whether a search compares the query with every vector."""
        return all(segment.ann is None for segment in self.segments)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        params: Mapping[str, int] | None = None,
        exact: bool = False,
        threads: int | None = None,
        any_tied: bool = False,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and rows of the best passages, best first, `[queries, <= k]` each.

        An approximate index may find fewer than `k`: its empty slots have row -1.

        Args:
            queries: `[queries, dim]`, of length 1 if the metric is cosine.
            params: Search parameters of the FAISS index instead of the tuned ones.
            exact: Compare with every stored vector, whatever the index type.
            any_tied: As for `search_exact`.

        Raises:
            ShapeError: The queries have another width, or hold NaN.
            IndexStateError: `exact` was asked of an index that kept no vectors.
        """
        queries = self._checked(queries)
        if exact and any(segment.vectors is None for segment in self.segments):
            raise IndexStateError(
                "the index keeps no raw vectors: rebuild with --keep-vectors f16 to search exactly"
            )
        search = partial(
            self._search_segment,
            queries=queries,
            k=k,
            params=params,
            exact=exact,
            threads=threads,
            any_tied=any_tied,
        )
        found = [search(segment) for segment in self.segments]
        return found[0] if len(found) == 1 else merge_hits(found, k=k)

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The row of each passage id, -1 where there is none, `[ids]`."""
        rows = np.full(len(ids), -1, np.int64)
        for segment in self.segments:
            found = segment.keys.find(ids, segment.passages)
            rows = np.where(found >= 0, found + segment.base, rows)
        return rows

    def values(self, name: str, rows: Sequence[int]) -> list[Any]:
        """One column of the passages at `rows`, in that order."""
        if len(self.segments) == 1:
            return self.segments[0].passages.values(name, rows)
        out: list[Any] = [None] * len(rows)
        array = np.asarray(rows, np.int64)
        for segment, places in self._split(array):
            found = segment.passages.values(name, (array[places] - segment.base).tolist())
            for place, value in zip(places.tolist(), found, strict=True):
                out[place] = value
        return out

    def passages(self, rows: NDArray[np.int64]) -> list[Passage]:
        """The passages at `rows`, in that order."""
        out: list[Passage | None] = [None] * len(rows)
        for segment, places in self._split(rows):
            for place, passage in zip(
                places, segment.passages.passages(rows[places] - segment.base), strict=True
            ):
                out[int(place)] = passage
        return [passage for passage in out if passage is not None]

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The stored vectors at `rows`, `[rows, dim]`.

        Raises:
            IndexStateError: The index was built with `--keep-vectors none`.
        """
        out = np.empty((len(rows), self.dim), np.float32)
        for segment, places in self._split(rows):
            if segment.vectors is None:
                raise IndexStateError(
                    "the index keeps no raw vectors: rebuild with --keep-vectors f16"
                )
            out[places] = segment.vectors.take(rows[places] - segment.base)
        return out

    def scan(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All passages in row order, a record batch at a time, with only these columns."""
        for segment in self.segments:
            yield from segment.passages.scan(columns)

    def _checked(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ShapeError(
                f"queries must be [queries, {self.dim}], got {list(queries.shape)}: embed them "
                "with the encoder of the index"
            )
        # One NaN or infinity shows in the sum of squares, which is cheap; so do very large values.
        if not math.isfinite(np.vdot(queries, queries)) and not np.isfinite(queries).all():
            raise ShapeError("a query vector holds NaN or infinity: check what embedded it")
        return np.ascontiguousarray(queries, np.float32)

    def _search_segment(
        self,
        segment: Segment,
        *,
        queries: NDArray[np.float32],
        k: int,
        params: Mapping[str, int] | None,
        exact: bool,
        threads: int | None,
        any_tied: bool,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if segment.vectors is not None and (segment.ann is None or exact):
            if params:
                raise ConfigError(f"an exact search has no parameters, got {dict(params)}")
            scores, rows = search_exact(
                segment.vectors,
                queries,
                k=k,
                metric=self.metric,
                threads=threads,
                any_tied=any_tied,
            )
        elif segment.ann is not None:
            chosen = self.manifest.ann.get("params", {}) if params is None else params
            scores, rows = segment.ann.search(
                queries, k=k, params=chosen, threads=threads, vectors=segment.vectors
            )
        else:
            raise ConfigError(f"{self.path} holds neither vectors nor a FAISS index: rebuild it")
        return scores, np.where(rows >= 0, rows + segment.base, -1) if segment.base else rows

    def _split(self, rows: NDArray[np.int64]) -> Iterator[tuple[Segment, NDArray[np.intp]]]:
        """Each segment that owns some of the rows, with their places in `rows`."""
        for segment in self.segments:
            places = np.flatnonzero((rows >= segment.base) & (rows < segment.base + segment.rows))
            if len(places):
                yield segment, places
