"""The recall check: sentences from random passages as queries, exact search as the truth."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.data import ReadOptions, Rejects, read_documents, split_sentences
from ragkit.encoders.base import Encoder
from ragkit.errors import ConfigError, DataError, IndexStateError
from ragkit.index.exact import search_exact
from ragkit.index.passages import Passages
from ragkit.index.reader import Index
from ragkit.index.recall import measure_quality
from ragkit.index.vectors import Vectors
from ragkit.retrieval.queries import unit_vectors
from ragkit.types import Metric

MIN_QUERIES = 16
MAX_QUERIES = 200
MAX_CHARACTERS = 300
NEIGHBOURS = 50


@dataclass(frozen=True)
class CheckQueries:
    """Queries of the check.

    Args:
        vectors: `[queries, dim]`.
        own_rows: The row that each query was made from, `[queries]`; `None` for given queries.
        kind: Where the queries come from.
    """

    vectors: NDArray[np.float32]
    own_rows: NDArray[np.int64] | None
    kind: str


def check_queries(
    passages: Passages,
    vectors: Vectors,
    *,
    encoder: Encoder | None,
    metric: Metric,
    count: int,
    rng: np.random.Generator,
    file: str | None = None,
) -> CheckQueries:
    """Queries from `file`, else a random sentence of each of `count` random passages.

    Without an encoder there are no texts to embed: then points around stored vectors, which as
    they are would find themselves in any index.

    Raises:
        ConfigError: A file of queries is given, but no encoder.
        DataError: The file is missing or malformed.
    """
    if file is not None:
        encoder = require_query_encoder(encoder)
        return CheckQueries(_encode(encoder, read_query_texts(file), metric), None, "file")
    rows = np.sort(rng.choice(len(passages), size=min(count, len(passages)), replace=False))
    if encoder is None:
        return CheckQueries(_around(vectors, rows, metric, rng), None, "around vectors")
    texts = [_random_sentence(text, rng) for text in passages.values("text", rows.tolist())]
    return CheckQueries(_encode(encoder, texts, metric), rows, "sentences")


def num_check_queries(num_passages: int, *, approximate: bool) -> int:
    """Queries of the check: enough to measure an approximate index, few for an exact one."""
    if approximate:
        return min(MAX_QUERIES, num_passages)
    return min(MAX_QUERIES, max(MIN_QUERIES, num_passages // 100), num_passages)


def check_index(
    index: Index, encoder: Encoder | None, *, num_queries: int, k: int, seed: int
) -> dict[str, Any]:
    """Recall, self-hit rate and latency of an opened index, as JSON values.

    Raises:
        ConfigError: `num_queries` or `seed` makes no sense.
        IndexStateError: The index keeps no vectors to compare with.
    """
    if num_queries < 1 or seed < 0:
        raise ConfigError(
            f"num_queries must be at least 1 and seed at least 0, got {num_queries} and {seed}"
        )
    if len(index.segments) != 1 or (vectors := index.segments[0].vectors) is None:
        raise IndexStateError("the check needs an index of one segment that keeps its vectors")
    rng = np.random.default_rng(seed)
    queries = check_queries(
        index.segments[0].passages,
        vectors,
        encoder=encoder,
        metric=index.metric,
        count=num_queries,
        rng=rng,
    )
    quality = measure_quality(
        lambda some, depth: index.search(some, k=depth, threads=1),
        vectors,
        queries.vectors,
        own_rows=queries.own_rows,
        k=k,
        metric=index.metric,
        rng=rng,
    )
    return {"queries_kind": queries.kind, **asdict(quality)}


def _random_sentence(text: str, rng: np.random.Generator) -> str:
    sentences = split_sentences(text) or [text]
    return sentences[int(rng.integers(len(sentences)))][:MAX_CHARACTERS]


def require_query_encoder(encoder: Encoder | None) -> Encoder:
    """The encoder, which there must be if queries are given as texts."""
    if encoder is None:
        raise ConfigError("queries in a file need an encoder: pass --encoder")
    return encoder


def read_query_texts(file: str) -> list[str]:
    """The queries of a BEIR queries.jsonl, or of a text file with one a line."""
    if file.endswith((".jsonl", ".jsonl.gz")):
        with Rejects() as rejects:
            found = read_documents([file], options=ReadOptions(), rejects=rejects)
            texts = [document.text for document in found]
    else:
        try:
            lines = Path(file).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file} cannot be read ({error}): check --eval-queries") from error
        texts = [line for line in lines if line.strip()]
    if not texts:
        raise DataError(f"{file} holds no query: write one a line, or BEIR's queries.jsonl")
    return texts


def _encode(encoder: Encoder, texts: list[str], metric: Metric) -> NDArray[np.float32]:
    vectors = encoder.encode(texts, role="query")
    return unit_vectors(vectors) if metric == "cosine" else vectors


def _around(
    vectors: Vectors, rows: NDArray[np.int64], metric: Metric, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Each of the rows, moved by the difference of two of its neighbours.

    So the points keep to where the data lie, as far from it as queries are.
    """
    own = vectors.take(rows)
    _, near = search_exact(vectors, own, k=NEIGHBOURS, metric=metric)
    picks = rng.integers(near.shape[1], size=(2, len(rows)))
    first, second = (vectors.take(near[np.arange(len(rows)), pick]) for pick in picks)
    moved = own + first - second
    return unit_vectors(moved) if metric == "cosine" else moved
