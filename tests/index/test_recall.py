import json
from dataclasses import asdict

import numpy as np
import pytest

from ragkit.index.exact import search_exact
from ragkit.index.recall import bootstrap_interval, ground_truth, measure_quality, recall_at
from ragkit.index.vectors import Vectors


@pytest.fixture
def vectors():
    return Vectors(np.random.default_rng(0).standard_normal((230, 6), dtype=np.float32))


@pytest.fixture
def queries():
    return np.random.default_rng(1).standard_normal((17, 6), dtype=np.float32)


def found(scores, rows):
    return np.array(scores, np.float32), np.array(rows, np.int64)


def test_share_of_the_true_rows_counts():
    truth = found([[4, 3], [4, 3]], [[7, 8], [7, 8]])

    assert recall_at(found([[4, 2], [1, 0]], [[7, 5], [1, 2]]), truth).tolist() == [0.5, 0.0]


def test_row_that_ties_with_the_last_true_one_counts():
    truth = found([[4, 3]], [[7, 8]])

    assert recall_at(found([[4, 3]], [[7, 9]]), truth).tolist() == [1.0]


def test_empty_slot_never_counts():
    truth = found([[-np.inf, -np.inf]], [[7, 8]])

    assert recall_at(found([[-np.inf, -np.inf]], [[-1, -1]]), truth).tolist() == [0.0]


def test_more_hits_than_the_truth_are_not_more_than_all():
    truth = found([[4]], [[7]])

    assert recall_at(found([[4, 4, 4]], [[7, 8, 9]]), truth).tolist() == [1.0]


def test_interval_holds_the_mean_and_shrinks_with_more_queries():
    rng = np.random.default_rng(0)
    few, many = rng.random(20), rng.random(2_000)

    narrow, wide = [bootstrap_interval(values, rng=rng) for values in (many, few)]

    assert narrow[0] < many.mean() < narrow[1]
    assert narrow[1] - narrow[0] < wide[1] - wide[0]


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_exact_search_has_perfect_quality(metric, vectors, queries):
    quality = measure_quality(
        lambda some, k: search_exact(vectors, some, k=k, metric=metric),
        vectors,
        queries,
        own_rows=None,
        k=10,
        metric=metric,
        rng=np.random.default_rng(0),
    )

    assert quality.recall == {"1": 1.0, "10": 1.0, "100": 1.0}
    assert quality.interval == (1.0, 1.0)
    assert quality.empty_slots == 0
    assert quality.self_hit_rate is None
    assert 0 < quality.p50_ms <= quality.p95_ms


def test_search_of_half_the_rows_loses_half_the_recall(vectors):
    half = Vectors(vectors.stored[:115])
    queries = vectors.read(0, 230)

    quality = measure_quality(
        lambda some, k: search_exact(half, some, k=k, metric="l2"),
        vectors,
        queries,
        own_rows=np.arange(230),
        k=7,
        metric="l2",
        rng=np.random.default_rng(0),
    )

    assert quality.self_hit_rate == 0.5
    assert quality.recall["1"] == 0.5
    assert list(quality.recall) == ["1", "7", "10", "100"]
    assert quality.interval[0] < quality.recall["7"] < quality.interval[1]


def test_empty_slots_are_reported(vectors, queries):
    def search(some, k):
        scores, rows = search_exact(vectors, some, k=k, metric="ip")
        return np.where(rows % 2, scores, -np.inf), np.where(rows % 2, rows, -1)

    quality = measure_quality(
        search, vectors, queries, own_rows=None, k=10, metric="ip", rng=np.random.default_rng(0)
    )

    assert quality.empty_slots == pytest.approx(1 - quality.recall["10"], abs=1e-3)


@pytest.mark.parametrize("rows", [1, 9])
def test_cuts_beyond_the_rows_are_left_out(rows, vectors, queries):
    few = Vectors(vectors.stored[:rows])

    quality = measure_quality(
        lambda some, k: search_exact(few, some, k=k, metric="ip"),
        few,
        queries,
        own_rows=None,
        k=10,
        metric="ip",
        rng=np.random.default_rng(0),
    )

    assert quality.k == rows
    assert json.loads(json.dumps(asdict(quality)))["recall"][str(rows)] == 1.0


def test_truth_is_exact_search(vectors, queries):
    truth = ground_truth(vectors, queries, k=3, metric="ip")

    np.testing.assert_array_equal(
        truth[1], np.argsort(-queries @ vectors.stored.T, axis=1, kind="stable")[:, :3]
    )
