"""Dense retrieval: embed the query, search the index, return passages."""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import count, repeat
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ragkit.encoders.base import Encoder
from ragkit.errors import ConfigError, IndexStateError
from ragkit.index.layout import Layout
from ragkit.index.manifest import Manifest, read_current
from ragkit.index.passages import SCHEMA
from ragkit.index.reader import Index, Verify
from ragkit.retrieval.canary import require_same_model
from ragkit.retrieval.hits import Columns, Hit, Hits
from ragkit.retrieval.models import OpenOptions, load_encoders, require_fitting_queries
from ragkit.retrieval.quality import check_index
from ragkit.retrieval.queries import check_k, checked_ids, checked_texts, unit_vectors
from ragkit.retrieval.ties import Ranked, search_in_order
from ragkit.types import Metric, Passage, Role

SCORE_KINDS: dict[Metric, str] = {"cosine": "cosine", "ip": "ip", "l2": "-l2^2"}

Query = str | NDArray[np.floating]


class Retriever:
    """Finds the passages of one index that best match a query; safe to share between threads.

    Open one with `Retriever.open`.
    """

    def __init__(
        self,
        index: Index,
        encoder: Encoder | None,
        options: OpenOptions,
        *,
        query_encoder: Encoder | None = None,
    ) -> None:
        self._index, self._encoder, self._options = index, encoder, options
        self._query_encoder = query_encoder or encoder

    @classmethod
    def open(  # noqa: PLR0913 - each is a choice of its own
        cls,
        path: str | Path,
        *,
        encoder: Encoder | str | None = None,
        query_encoder: Encoder | str | None = None,
        with_encoder: bool = True,
        device: str = "auto",
        dtype: str = "auto",
        trust_remote_code: bool = False,
        mmap: bool = True,
        verify: Verify = "fast",
        generation: int | None = None,
        threads: int | None = None,
    ) -> "Retriever":
        """A retriever over the index at `path`, after its encoder was checked to be the right one.

        Args:
            encoder: Embeds queries; `None` loads the model that the index names.
            query_encoder: Embeds queries in its place, once it was checked to be the right one: a
                tuned query tower. Runs with the prefix and maximum length of its own folder.
            dtype: Of the encoder; `auto` is fp32 if the passages were embedded in fp32.
            trust_remote_code: Run the Python code that comes with the model; never taken from the
                index.
            with_encoder: `False` opens in milliseconds, without a model, for queries by vector.
            verify: `full` reads every byte of the index first.
            generation: An older generation that is still there.
            threads: Threads of one search; all cores if `None`.

        Raises:
            ConfigError: There is no index at `path`.
            IndexStateError: Nothing is published there, or a newer ragkit wrote it.
            IndexCorruptError: A file is missing or damaged.
            ModelMismatchError: The encoder is not the one that embedded the passages, or the query
                encoder gives vectors of another width or was tuned for another one.
        """
        options = OpenOptions(
            encoder=encoder,
            query_encoder=query_encoder,
            with_encoder=with_encoder,
            device=device,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            mmap=mmap,
            verify=verify,
            generation=generation,
            threads=threads,
        )
        index = Index.open(path, mmap=mmap, verify=verify, generation=generation)
        loaded, for_queries = load_encoders(index, options)
        return cls(index, loaded, options, query_encoder=for_queries)

    def __len__(self) -> int:
        return len(self._index)

    def search(
        self,
        query: Query,
        k: int = 10,
        *,
        min_score: float | None = None,
        exact: bool = False,
        params: Mapping[str, int] | None = None,
    ) -> Hits:
        """The `k` passages that match best, best first; fewer if the index holds fewer.

        Args:
            query: A text, or a vector `[dim]`.
            min_score: Leave out hits with a smaller score.
            exact: Compare with every passage, whatever the index type.
            params: Search parameters of the FAISS index, such as `{"nprobe": 64}`.

        Raises:
            ConfigError: `k` or the query makes no sense.
            ShapeError: The vector has another width, or holds NaN.
        """
        if not isinstance(query, str):
            query = np.asarray(query)
            if query.ndim != 1:
                raise ConfigError(
                    f"query must be a text or a vector, got shape {list(query.shape)}"
                )
            query = query[None]
        queries = [query] if isinstance(query, str) else query
        return self.search_batch(queries, k, min_score=min_score, exact=exact, params=params)[0]

    def search_batch(
        self,
        queries: Sequence[str] | NDArray[np.floating],
        k: int = 10,
        *,
        min_score: float | None = None,
        exact: bool = False,
        params: Mapping[str, int] | None = None,
    ) -> list[Hits]:
        """The hits of each query, in order: one pass of the encoder, one search.

        Args:
            queries: Texts, or vectors `[queries, dim]`; the rest as for `search`.
        """
        check_k(k)
        index = self._index
        started = time.perf_counter()
        texts, vectors = self._embed(queries, index)
        embedded = time.perf_counter()
        if not len(vectors):
            return []
        search = partial(index.search, params=params, exact=exact, threads=self._options.threads)
        ranked = search_in_order(search, index, vectors, k=k)
        found = time.perf_counter()
        took_ms = {"embed": 1e3 * (embedded - started), "search": 1e3 * (found - embedded)}
        return _hits(index, texts, ranked, min_score, took_ms, exact=exact or index.is_exact)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors that `search` uses for these queries, `[texts, dim]`."""
        return self._encode(checked_texts(texts), "query", self._index)

    def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of these texts as passages, `[texts, dim]`."""
        return self._encode(checked_texts(texts), "passage", self._index)

    def get(self, ids: Sequence[str]) -> list[Passage | None]:
        """The passage of each id, `None` where there is none."""
        rows = self.rows(ids)
        found = iter(self._index.passages(rows[rows >= 0]))
        return [next(found) if row >= 0 else None for row in rows]

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The row of each passage in this generation, -1 where there is none, `[ids]`."""
        return self._index.rows(checked_ids(ids))

    def vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """The stored vectors of passages, `[ids, dim]`.

        Raises:
            ConfigError: An id is not in the index.
        """
        rows = self.rows(ids)
        if (rows < 0).any():
            unknown = [name for name, row in zip(ids, rows, strict=True) if row < 0]
            raise ConfigError(f"no passage has the id {unknown[0]!r}: ids look like `doc#0`")
        return self._index.vectors(rows)

    def iter_passages(self, columns: Sequence[str] = ("id", "text")) -> Iterator[pa.RecordBatch]:
        """All passages in row order, as Arrow record batches with these columns.

        Raises:
            ConfigError: There is no such column.
        """
        unknown = set(columns) - set(SCHEMA.names)
        if unknown:
            raise ConfigError(f"no column {sorted(unknown)}: there are {', '.join(SCHEMA.names)}")
        return self._index.scan(columns)

    def info(self) -> Manifest:
        """What was built, when, from what and how well it searches."""
        return self._index.manifest

    def query_model(self) -> dict[str, Any]:
        """What identifies the encoder of queries; empty without one."""
        return {} if self._query_encoder is None else self._query_encoder.describe()

    def check(self, num_queries: int = 200, *, k: int = 10, seed: int = 0) -> dict[str, Any]:
        """Recall, self-hit rate and latency now, by sentences from passages as queries."""
        encoder = self._query_encoder
        return check_index(self._index, encoder, num_queries=num_queries, k=k, seed=seed)

    def refresh(self) -> bool:
        """Move to the current generation if it is another one; whether it was.

        Searches under way finish on the generation they began with.

        Raises:
            IndexCorruptError: A file of the current generation is missing or damaged.
            ModelMismatchError: It was embedded by another encoder: open it anew.
        """
        if read_current(Layout(self._index.path)) == self._index.manifest:
            return False
        index = Index.open(self._index.path, mmap=self._options.mmap, verify="fast")
        if self._encoder is not None:
            require_same_model(index.path, index.manifest, self._encoder)
        if self._options.query_encoder is not None and self._query_encoder is not None:
            require_fitting_queries(index.manifest, self._query_encoder)
        self._index, self._options = index, self._options._replace(generation=None)
        return True

    def close(self) -> None:
        """Let go of the encoders; the maps go with the last hit that refers to them."""
        self._encoder = self._query_encoder = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (str(self._index.path), self._options._asdict())

    def _embed(
        self, queries: Sequence[str] | NDArray[np.floating], index: Index
    ) -> tuple[Sequence[str | None], NDArray[np.float32]]:
        if isinstance(queries, np.ndarray):
            if queries.dtype.kind not in "fiu":
                raise ConfigError(
                    f"query vectors must be numbers, got {queries.dtype}: give texts as a list to "
                    "search_batch"
                )
            vectors = np.asarray(queries, np.float32)
            if index.metric == "cosine" and vectors.ndim == 2:
                vectors = unit_vectors(vectors)
            return [None] * len(vectors), vectors
        texts = checked_texts(queries)
        if not texts:
            return texts, np.empty((0, index.dim), np.float32)
        return texts, self._encode(texts, "query", index)

    def _encode(self, texts: list[str], role: Role, index: Index) -> NDArray[np.float32]:
        vectors = self._require_encoder(role).encode(texts, role=role)
        return unit_vectors(vectors) if index.metric == "cosine" else vectors

    def _require_encoder(self, role: Role) -> Encoder:
        encoder = self._query_encoder if role == "query" else self._encoder
        if encoder is None:
            raise IndexStateError(
                "this retriever has no encoder: open it without with_encoder=False, or pass "
                "encoder=..., or search by vector"
            )
        return encoder


def _reopen(path: str, options: dict[str, Any]) -> Retriever:
    return Retriever.open(path, **options)


def _hits(
    index: Index,
    texts: Sequence[str | None],
    ranked: Sequence[Ranked],
    min_score: float | None,
    took_ms: dict[str, float],
    *,
    exact: bool,
) -> list[Hits]:
    """The hits of each query; all of them share their columns."""
    kept = [_kept(scores, rows, min_score) for scores, rows in ranked]
    columns = Columns(index, [row for _, rows in kept for row in rows])
    kind, generation = SCORE_KINDS[index.metric], index.manifest.generation
    place = 0
    hits = []
    for text, (scores, rows) in zip(texts, kept, strict=True):
        found = list(map(Hit, repeat(columns), count(place), count(1), scores, rows))
        hits.append(
            Hits(
                found,
                query=text,
                score_kind=kind,
                took_ms=took_ms,
                generation=generation,
                exact=exact,
            )
        )
        place += len(found)
    return hits


def _kept(scores: list[float], rows: list[int], min_score: float | None) -> Ranked:
    """The hits without empty slots, which come last, and without those of too small a score."""
    if min_score is None and rows and rows[-1] >= 0:
        return scores, rows
    count = len(rows)
    while count and (
        rows[count - 1] < 0 or (min_score is not None and scores[count - 1] < min_score)
    ):
        count -= 1
    return scores[:count], rows[:count]
