import json
import math
import subprocess
import sys
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ragkit.errors import DataError
from ragkit.evaluation.judgements import read_qrels, read_queries
from ragkit.evaluation.retrieval import (
    DEPTH,
    MAX_PASSAGES,
    METRICS,
    RetrievalReport,
    evaluate_index,
    evaluate_retrieval,
    to_json,
    to_table,
)

DOCS = [f"d{i}" for i in range(23)]
MEANS = {"ndcg@10": 0.39151, "recall@10": 0.5, "recall@100": 0.75, "mrr@10": 0.123456}
QUERIES = {f"q{i}": f"text {i}" for i in range(5)}
GRADES = st.dictionaries(st.sampled_from(DOCS), st.integers(0, 3), min_size=1)
RANKINGS = st.lists(st.tuples(st.sampled_from(DOCS), st.sampled_from([0.25, 0.5, 1.0, 2.0])))


@dataclass
class Passage:
    doc_id: str
    score: float


class FixedSearch:
    """Gives each query its ranking of passages and remembers how many were asked for."""

    def __init__(self, by_text):
        self.by_text = by_text
        self.asked = []

    def search_batch(self, queries, *, k):
        self.asked.append((len(queries), k))
        return [[Passage(*hit) for hit in self.by_text[query][:k]] for query in queries]


def search_in(by_text):
    return lambda texts: [by_text[text] for text in texts]


def ndcg(grades, ranking, k):
    def gain(values):
        return sum(value / math.log2(rank + 2) for rank, value in enumerate(values[:k]))

    ideal = gain(sorted(grades.values(), reverse=True))
    return gain([grades.get(doc, 0) for doc in ranking]) / ideal if ideal else 0.0


def recall(grades, ranking, k):
    relevant = {doc for doc, grade in grades.items() if grade > 0}
    return len(relevant.intersection(ranking[:k])) / len(relevant) if relevant else 0.0


def reciprocal_rank(grades, ranking, k):
    ranks = [rank for rank, doc in enumerate(ranking[:k], start=1) if grades.get(doc, 0) > 0]
    return 1 / ranks[0] if ranks else 0.0


def by_best_passage(passages):
    best = {}
    for doc, score in passages:
        best[doc] = max(score, best.get(doc, score))
    return sorted(best, key=lambda doc: (-best[doc], doc))


@given(data=st.data())
def test_metrics_equal_the_textbook(data):
    qrels = {query: data.draw(GRADES) for query in QUERIES}
    found = {text: data.draw(RANKINGS) for text in QUERIES.values()}

    report = evaluate_retrieval(search_in(found), QUERIES, qrels)

    for query, text in QUERIES.items():
        grades, ranking = qrels[query], by_best_passage(found[text])
        assert [doc for doc, _ in report.rankings[query]] == ranking
        assert report.per_query[query] == pytest.approx(
            {
                "ndcg@10": ndcg(grades, ranking, 10),
                "recall@10": recall(grades, ranking, 10),
                "recall@100": recall(grades, ranking, 100),
                "mrr@10": reciprocal_rank(grades, ranking, 10),
            }
        )
    for name in METRICS:
        mean = sum(values[name] for values in report.per_query.values()) / len(QUERIES)
        assert report.scores[name] == pytest.approx(mean)


def test_a_document_counts_with_its_best_passage():
    found = {"text 0": [("d1", 0.2), ("d2", 0.5), ("d1", 0.9), ("d2", 0.1)]}

    report = evaluate_retrieval(search_in(found), {"q0": "text 0"}, {"q0": {"d2": 1}})

    assert report.rankings["q0"] == [("d1", 0.9), ("d2", 0.5)]
    assert report.scores["mrr@10"] == 0.5


@pytest.mark.parametrize("order", [["d10", "d9"], ["d9", "d10"]])
def test_ties_are_ordered_by_id_whatever_the_search_says(order):
    found = {"text 0": [(doc, 0.5) for doc in order]}

    report = evaluate_retrieval(search_in(found), {"q0": "text 0"}, {"q0": {"d10": 1}})

    assert report.scores["mrr@10"] == 1


def test_scores_too_close_for_single_precision_still_rank():
    found = {"text 0": [("a", 1.0), ("b", 1.0 + 1e-12)]}

    report = evaluate_retrieval(search_in(found), {"q0": "text 0"}, {"q0": {"b": 1}})

    assert report.scores["mrr@10"] == 1


def test_only_judged_queries_are_run(caplog):
    searched = []

    def search(texts):
        searched.extend(texts)
        return [[("d1", 1.0)] for _ in texts]

    report = evaluate_retrieval(search, QUERIES, {"q3": {"d1": 1}, "q9": {"d1": 1}, "q2": {}})

    assert searched == ["text 3"]
    assert set(report.per_query) == {"q3"}
    assert "2 judged queries have no text" in caplog.text


def test_a_query_without_hits_counts_as_zero():
    found = {"text 0": [("d1", 1.0)], "text 1": []}
    qrels = {"q0": {"d1": 1}, "q1": {"d1": 1}}

    report = evaluate_retrieval(search_in(found), {"q0": "text 0", "q1": "text 1"}, qrels)

    assert report.scores == dict.fromkeys(METRICS, 0.5)


def test_many_queries_are_searched_in_batches_of_bounded_size():
    sizes = []

    def search(texts):
        sizes.append(len(texts))
        return [[(text, 1.0)] for text in texts]

    queries = {str(i): f"d{i}" for i in range(601)}
    report = evaluate_retrieval(search, queries, {i: {text: 1} for i, text in queries.items()})

    assert sum(sizes) == 601
    assert max(sizes) < 300
    assert report.scores["ndcg@10"] == 1


def test_queries_and_judgements_of_different_collections_are_refused():
    with pytest.raises(DataError, match="queries and the qrels of the same collection"):
        evaluate_retrieval(search_in({}), QUERIES, {"other": {"d1": 1}})


def test_the_search_widens_until_there_are_enough_documents():
    crowded = [(f"d{i // 7}", 1 - i / 10_000) for i in range(7 * 150)]
    spread = [(f"d{i}", 1 - i / 10_000) for i in range(3 * DEPTH)]
    retriever = FixedSearch({"text 0": crowded, "text 1": spread, "text 2": spread[:40]})
    queries = {query: QUERIES[query] for query in ("q0", "q1", "q2")}
    qrels = {query: {"d99": 1, "d39": 1} for query in queries}

    report = evaluate_index(retriever, queries, qrels)

    assert [len(report.rankings[query]) for query in queries] == [DEPTH, DEPTH, 40]
    assert [values["recall@100"] for values in report.per_query.values()] == [1, 1, 0.5]
    assert [number for number, _ in retriever.asked] == [3, 1, 1]


def test_the_search_stops_widening_at_a_document_that_fills_the_index():
    retriever = FixedSearch({"text 0": [("d1", 0.5)] * (2 * MAX_PASSAGES)})

    report = evaluate_index(retriever, {"q0": "text 0"}, {"q0": {"d1": 1}})

    assert max(k for _, k in retriever.asked) == MAX_PASSAGES
    assert report.scores["ndcg@10"] == 1


def test_a_missing_library_is_named_with_the_line_to_run():
    code = (
        "import sys; sys.modules['ir_measures'] = None\n"
        "from ragkit.evaluation.retrieval import evaluate_retrieval\n"
        "evaluate_retrieval(lambda texts: [[]], {'q': 'text'}, {'q': {'d': 1}})"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "MissingDependencyError" in ran.stderr
    assert "pip install 'ragkit[eval]'" in ran.stderr


@pytest.mark.parametrize("collection", ["cranfield", "cisi", "scifact_train"])
def test_a_perfect_search_of_a_real_collection_scores_one(data_dir, collection):
    folder = data_dir / "ir" / collection
    queries, qrels = read_queries(folder / "queries.jsonl"), read_qrels(folder / "qrels.tsv")
    ids_by_text = {}
    for query_id, text in queries.items():
        ids_by_text.setdefault(text, query_id)

    def search(texts):
        return [list(qrels[ids_by_text[text]].items()) for text in texts]

    report = evaluate_retrieval(search, queries, qrels)

    assert len(report.per_query) == len(qrels)
    assert report.scores["ndcg@10"] == pytest.approx(1)
    assert json.dumps(report.scores)


@pytest.fixture
def report():
    return RetrievalReport(MEANS, {f"q{i}": MEANS for i in range(225)}, {})


def test_json_has_the_keys_that_scripts_rely_on(report):
    read = json.loads(json.dumps(to_json(report)))

    assert list(read) == ["schema", "ndcg@10", "recall@10", "recall@100", "mrr@10", "queries"]
    assert {name: read[name] for name in MEANS} == MEANS
    assert read["queries"] == 225


def test_the_table_shows_every_metric_and_the_number_of_queries(report):
    console = Console(width=60, color_system=None)

    with console.capture() as capture:
        console.print(to_table(report, title="cranfield"))

    rows = [line.split() for line in capture.get().splitlines()]
    shown = {row[1]: row[3] for row in rows if len(row) == 5}
    assert shown["ndcg@10"] == "0.3915"
    assert shown["queries"] == "225"
    assert set(shown) >= set(MEANS)
    assert "cranfield" in capture.get()
