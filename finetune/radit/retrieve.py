"""Stage 1: search the index for the candidates of each record."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragkit.console import progress
from ragkit.errors import ConfigError
from ragkit.finetune.radit.candidates import CandidateCounts, Candidates
from ragkit.finetune.radit.leaks import SourceFilter
from ragkit.finetune.radit.records import InstructionRecord
from ragkit.finetune.radit.tasks import retrieval_query
from ragkit.retrieval.hits import Hit, Hits
from ragkit.retrieval.queries import MAX_K, check_k
from ragkit.retrieval.retriever import Retriever

BATCH_SIZE = 256
GROWTH = 4
"""How many times more hits are asked for where too few were left."""


def retrieve_candidates(
    retriever: Retriever,
    records: Sequence[InstructionRecord],
    *,
    k: int,
    num_neighbours: int = 1,
    batch_size: int = BATCH_SIZE,
) -> Candidates:
    """The `k` best passages of each record that retrieves, in the order of the records.

    Of passages with one text the best counts, and none that a record was cut from; so many more
    are asked for that `k` are left wherever the index has them.

    Args:
        records: Those of tasks without retrieval are left out.
        num_neighbours: Rows beside the passage that a record was cut from which are kept from it.

    Raises:
        ConfigError: `k`, `batch_size` or a query makes no sense, or two records have one id.
    """
    check_k(k)
    if batch_size < 1:
        raise ConfigError(f"batch_size must be 1 or more, got {batch_size}")
    searched = [record for record in records if retrieval_query(record) is not None]
    names = [record.id for record in searched]
    _require_different(names)
    sources = SourceFilter(retriever, searched, num_neighbours=num_neighbours)
    found: list[_Found] = []
    with progress("retrieve", total=len(searched)) as bar:
        for start in range(0, len(searched), batch_size):
            batch = searched[start : start + batch_size]
            found += _search(retriever, sources, batch, k=k)
            bar.advance(len(batch))
    manifest = retriever.info()
    return Candidates(
        names,
        _padded([[hit.row for hit in one.hits] for one in found], k, -1, np.int64),
        _padded([[hit.score for hit in one.hits] for one in found], k, -np.inf, np.float32),
        manifest.content_hash,
        retriever.query_model(),
        _count(found, k),
    )


class _Found(NamedTuple):
    """What is left of the hits of a record."""

    hits: list[Hit]
    num_duplicates: int
    num_excluded: int


def _search(
    retriever: Retriever, sources: SourceFilter, records: Sequence[InstructionRecord], *, k: int
) -> list[_Found]:
    """The hits of each record; records that too few are left of ask again, for more."""
    vectors = retriever.embed_queries([retrieval_query(record) or "" for record in records])
    found = [_Found([], 0, 0)] * len(records)
    limit = min(len(retriever), MAX_K)
    pending, asked = list(range(len(records))), min(2 * k, limit)
    while pending:
        batch = retriever.search_batch(vectors[pending], asked)
        for place, hits in zip(pending, batch, strict=True):
            found[place] = _sift(records[place], hits, sources, k=k)
        pending = [place for place in pending if len(found[place].hits) < k and asked < limit]
        asked = min(GROWTH * asked, limit)
    return found


def _sift(record: InstructionRecord, hits: Hits, sources: SourceFilter, *, k: int) -> _Found:
    """The first `k` hits that differ in text and do not give the target away."""
    kept: list[Hit] = []
    seen: set[str] = set()
    num_duplicates = num_excluded = 0
    for hit in hits:
        if len(kept) == k:
            break
        if sources.forbids(record, hit):
            num_excluded += 1
        elif hit.text in seen:
            num_duplicates += 1
        else:
            kept.append(hit)
            seen.add(hit.text)
    return _Found(kept, num_duplicates, num_excluded)


def _padded(
    lists: Sequence[Sequence[float]], k: int, empty: float, dtype: type[Any]
) -> NDArray[Any]:
    """`[examples, k]`."""
    padded = np.full((len(lists), k), empty, dtype)
    for row, values in zip(padded, lists, strict=True):
        row[: len(values)] = values
    return padded


def _count(found: Sequence[_Found], k: int) -> CandidateCounts:
    lengths = [len(one.hits) for one in found]
    return CandidateCounts(
        num_examples=len(found),
        num_empty=lengths.count(0),
        num_short=sum(0 < length < k for length in lengths),
        num_duplicates=sum(one.num_duplicates for one in found),
        num_excluded=sum(one.num_excluded for one in found),
    )


def _require_different(names: Sequence[str]) -> None:
    [(name, number)] = Counter(names).most_common(1) or [("", 0)]
    if number > 1:
        raise ConfigError(
            f"{number} records have the id {name!r}: make ids unique across the sets, which is "
            "what candidates and scores are kept by"
        )
