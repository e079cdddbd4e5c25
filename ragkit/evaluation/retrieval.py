"""Retrieval quality: nDCG@10, recall@10, recall@100 and MRR@10, computed by ir-measures.

Documents are ranked by their best passage. Equal scores are ordered by document id, ascending, so
that the figures depend neither on the order in which a search returns ties nor on the tie rule of
the library below.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any, Protocol

from rich.table import Table
from rich.text import Text

from ragkit.console import track
from ragkit.errors import DataError, MissingDependencyError
from ragkit.evaluation.judgements import Qrels

SCHEMA = "ragkit.eval_retrieval/1"
METRICS = ("ndcg@10", "recall@10", "recall@100", "mrr@10")
DEPTH = 100
"""Documents of a query that the deepest metric reads."""
MAX_PASSAGES = 10_000
"""Passages of a query past which the search for `DEPTH` different documents stops."""
BATCH_SIZE = 256

Ranking = Sequence[tuple[str, float]]
"""Document ids with scores, larger is better."""
Search = Callable[[Sequence[str]], Sequence[Ranking]]
"""One ranking per query text; a document may come several times, once per passage."""

logger = logging.getLogger(__name__)


class PassageHit(Protocol):
    """A found passage."""

    @property
    def doc_id(self) -> str:
        """The document that the passage is part of."""
        ...

    @property
    def score(self) -> float:
        """How well it matches; larger is better."""
        ...


class PassageSearch(Protocol):
    """What this module needs of `ragkit.Retriever`."""

    def search_batch(self, queries: Sequence[str], *, k: int) -> Sequence[Collection[PassageHit]]:
        """The `k` best passages of each query; fewer if the index has no more."""
        ...


@dataclass(frozen=True, slots=True)
class RetrievalReport:
    """How well a search found the relevant documents of one collection.

    Args:
        scores: Mean over the queries by metric, in the order of `METRICS`; 0 to 1.
        per_query: The same by query id and metric.
        rankings: At most `DEPTH` documents by query id, best first.
    """

    scores: Mapping[str, float]
    per_query: Mapping[str, Mapping[str, float]]
    rankings: Mapping[str, Ranking]


def evaluate_index(
    retriever: PassageSearch, queries: Mapping[str, str], qrels: Qrels
) -> RetrievalReport:
    """Return how well the passages that `retriever` finds lead to the relevant documents.

    Where several passages of one document rank high, a query is repeated with more hits until it
    has `DEPTH` documents, the index has no more or `MAX_PASSAGES` are read.

    Raises:
        DataError: No query is judged.
        MissingDependencyError: ir-measures is not installed.
    """
    return evaluate_retrieval(partial(_search_documents, retriever), queries, qrels)


def evaluate_retrieval(search: Search, queries: Mapping[str, str], qrels: Qrels) -> RetrievalReport:
    """Return how well `search` ranks the relevant documents.

    Queries without judgements are not run. A query without hits, or without relevant documents
    among its judgements, counts as 0.

    Args:
        search: Should return `DEPTH` documents, else recall@100 is too low.
        queries: Text by query id.
        qrels: Grade by query id and document id.

    Raises:
        DataError: No query is judged.
        MissingDependencyError: ir-measures is not installed.
    """
    judged = _judged_queries(queries, qrels)
    rankings = _run(search, judged)
    per_query = _measure(rankings, qrels)
    scores = {name: fmean(values[name] for values in per_query.values()) for name in METRICS}
    return RetrievalReport(scores, per_query, rankings)


def to_json(report: RetrievalReport) -> dict[str, Any]:
    """The means and the number of queries, `schema` first; keys are only ever added."""
    return {"schema": SCHEMA, **report.scores, "queries": len(report.per_query)}


def to_table(report: RetrievalReport, *, title: str = "") -> Table:
    """One row per metric with its mean, and the number of queries below."""
    table = Table(title=Text(title) if title else None)
    table.add_column("metric")
    table.add_column("mean", justify="right")
    for name, value in report.scores.items():
        table.add_row(name, f"{value:.4f}")
    table.add_row("queries", str(len(report.per_query)))
    return table


def _judged_queries(queries: Mapping[str, str], qrels: Qrels) -> dict[str, str]:
    judged = {query_id: text for query_id, text in queries.items() if qrels.get(query_id)}
    if not judged:
        raise DataError(
            f"none of the {len(queries)} queries has a judgement (the judgements name "
            f"{len(qrels)} others): give the queries and the qrels of the same collection"
        )
    if unknown := len(qrels) - len(judged):
        logger.warning("%d judged queries have no text and are left out", unknown)
    return judged


def _run(search: Search, queries: Mapping[str, str]) -> dict[str, Ranking]:
    ids, texts = list(queries), list(queries.values())
    rankings: dict[str, Ranking] = {}
    for start in track(range(0, len(ids), BATCH_SIZE), description="search"):
        batch = slice(start, start + BATCH_SIZE)
        for query_id, found in zip(ids[batch], search(texts[batch]), strict=True):
            rankings[query_id] = _rank_documents(found)
    return rankings


def _rank_documents(found: Ranking) -> Ranking:
    best: dict[str, float] = {}
    for doc_id, score in found:
        best[doc_id] = max(score, best.get(doc_id, score))
    return sorted(best.items(), key=lambda item: (-item[1], item[0]))[:DEPTH]


def _search_documents(retriever: PassageSearch, texts: Sequence[str]) -> list[Ranking]:
    rankings: list[Ranking] = [()] * len(texts)
    pending, k = list(range(len(texts))), DEPTH
    while pending:
        found = retriever.search_batch([texts[i] for i in pending], k=k)
        for i, hits in zip(pending, found, strict=True):
            rankings[i] = [(hit.doc_id, hit.score) for hit in hits]
        if k == MAX_PASSAGES:
            break
        # Fewer hits than asked for means that the index has no more.
        pending = [i for i in pending if len(rankings[i]) >= k and _lacks_documents(rankings[i])]
        k = min(4 * k, MAX_PASSAGES)
    return rankings


def _lacks_documents(ranking: Ranking) -> bool:
    return len({doc_id for doc_id, _ in ranking}) < DEPTH


def _measure(rankings: Mapping[str, Ranking], qrels: Qrels) -> dict[str, dict[str, float]]:
    """The value of every metric by query id."""
    try:
        import ir_measures
    except ImportError as error:
        raise MissingDependencyError(
            "retrieval metrics need ir-measures: run `pip install 'ragkit[eval]'`"
        ) from error
    measures = [ir_measures.nDCG @ 10, ir_measures.R @ 10, ir_measures.R @ 100, ir_measures.RR @ 10]
    names = dict(zip(measures, METRICS, strict=True))
    # Ranks instead of scores: distinct numbers leave the library no tie to break.
    run = {
        query_id: {doc_id: float(-rank) for rank, (doc_id, _) in enumerate(ranking)}
        for query_id, ranking in rankings.items()
    }
    per_query = {query_id: dict.fromkeys(METRICS, 0.0) for query_id in rankings}
    judgements = {query_id: qrels[query_id] for query_id in rankings}
    for value in ir_measures.iter_calc(measures, judgements, run):
        per_query[value.query_id][names[value.measure]] = float(value.value)
    return per_query
