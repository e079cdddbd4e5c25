import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import ConfigError, ShapeError
from ragkit.index import exact
from ragkit.index.exact import rescore, search_exact
from ragkit.index.vectors import Vectors

METRICS = ["ip", "l2", "cosine"]


def some_vectors(rows, dim, *, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32)


def brute_force(values, queries, k, metric):
    """Scores in fp64; ties by row, as a stable sort leaves them."""
    values, queries = values.astype(np.float64), queries.astype(np.float64)
    scores = queries @ values.T
    if metric == "l2":
        scores = -((queries[:, None] - values[None]) ** 2).sum(-1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), order


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [1, 7, 4096])
@pytest.mark.parametrize("num_queries", [1, 3, 4, 33])
def test_finds_what_brute_force_finds(metric, dim, num_queries):
    values, queries = some_vectors(213, dim), some_vectors(num_queries, dim, seed=1)

    scores, rows = search_exact(Vectors(values), queries, k=11, metric=metric)

    expected_scores, _ = brute_force(values, queries, 11, metric)
    tolerance = 1e-6 * 4 * dim  # fp32 sums of `dim` products
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5, atol=tolerance)
    assert (np.diff(scores, axis=1) <= 0).all()
    own, _ = rescore(Vectors(values), queries, rows, metric=metric)
    np.testing.assert_allclose(own, scores, rtol=1e-5, atol=tolerance)


@given(
    rows=st.integers(1, 40),
    num_queries=st.integers(1, 9),
    k=st.integers(1, 50),
    metric=st.sampled_from(METRICS),
    seed=st.integers(0, 99),
)
def test_ties_go_to_the_smaller_row(rows, num_queries, k, metric, seed):
    # Small whole numbers: products are exact, so every tie is a real one, and there are many.
    rng = np.random.default_rng(seed)
    values = rng.integers(-1, 2, (rows, 3)).astype(np.float32)
    queries = rng.integers(-1, 2, (num_queries, 3)).astype(np.float32)

    scores, found = search_exact(Vectors(values), queries, k=k, metric=metric, threads=1)

    expected_scores, expected_rows = brute_force(values, queries, k, metric)
    np.testing.assert_array_equal(found, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)


@pytest.mark.parametrize("num_queries", [1, 5])
def test_ten_thousand_equal_rows_come_in_order(num_queries):
    values = np.ones((10_000, 6), np.float32)

    _, rows = search_exact(Vectors(values), np.ones((num_queries, 6), np.float32), k=4, metric="ip")

    np.testing.assert_array_equal(rows, np.tile(np.arange(4), (num_queries, 1)))


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("num_queries", [2, 17])
@pytest.mark.parametrize("dtype", ["f32", "f16", "i8"])
def test_results_do_not_depend_on_the_number_of_threads(metric, num_queries, dtype, monkeypatch):
    monkeypatch.setattr(exact, "VALUES_PER_THREAD", 1)
    monkeypatch.setattr(exact, "VALUES_PER_BLOCK", 2_048 * 13)
    values = some_vectors(9_001, 13)
    stored = {
        "f32": Vectors(values),
        "f16": Vectors(values.astype(np.float16)),
        "i8": Vectors((values * 20).astype(np.int8), np.full(13, 0.05, np.float32)),
    }[dtype]
    queries = some_vectors(num_queries, 13, seed=1)

    one, *others = [
        search_exact(stored, queries, k=21, metric=metric, threads=threads)
        for threads in (1, 2, 3, 7)
    ]

    for other in others:
        np.testing.assert_array_equal(other[0], one[0])
        np.testing.assert_array_equal(other[1], one[1])


@pytest.mark.parametrize("metric", METRICS)
def test_stored_codes_are_searched_by_their_values(metric):
    rng = np.random.default_rng(0)
    codes = rng.integers(-127, 128, (301, 9)).astype(np.int8)
    scale = rng.uniform(0.001, 0.1, 9).astype(np.float32)
    queries = some_vectors(6, 9)

    found = search_exact(Vectors(codes, scale), queries, k=8, metric=metric)

    plain = search_exact(Vectors(codes * scale), queries, k=8, metric=metric)
    np.testing.assert_array_equal(found[0], plain[0])
    np.testing.assert_array_equal(found[1], plain[1])


@pytest.mark.parametrize(("rows", "width"), [(0, 0), (1, 1), (9, 9), (11, 10)])
def test_fewer_rows_than_asked_for_are_all_returned(rows, width):
    scores, found = search_exact(
        Vectors(some_vectors(rows, 5)), some_vectors(3, 5), k=10, metric="l2"
    )

    assert scores.shape == found.shape == (3, width)
    assert (found >= 0).all()


def test_no_queries_give_no_results():
    scores, rows = search_exact(
        Vectors(some_vectors(8, 5)), np.empty((0, 5), np.float32), k=3, metric="ip"
    )

    assert scores.shape == rows.shape == (0, 3)


def test_vector_is_at_distance_zero_from_itself_far_from_the_origin():
    # The expanded form |x|^2 - 2xy + |y|^2 would have an error of about 1 here.
    values = 1_000 + some_vectors(500, 24)

    scores, rows = search_exact(Vectors(values), values[:40], k=1, metric="l2")

    np.testing.assert_array_equal(rows[:, 0], np.arange(40))
    assert (scores == 0).all()
    assert not np.signbit(scores).any()


def test_rescore_sorts_and_keeps_empty_slots_last():
    values = np.array([[1.0], [3.0], [2.0]], np.float32)

    scores, rows = rescore(
        Vectors(values), np.ones((1, 1), np.float32), np.array([[-1, 0, 2, 1]]), metric="ip"
    )

    assert rows.tolist() == [[1, 2, 0, -1]]
    assert scores.tolist() == [[3.0, 2.0, 1.0, -math.inf]]


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(k):
    with pytest.raises(ConfigError, match="at least 1"):
        search_exact(Vectors(some_vectors(4, 2)), some_vectors(1, 2), k=k, metric="ip")


def test_queries_of_another_width_are_refused():
    with pytest.raises(ShapeError, match="encoder of the index"):
        search_exact(Vectors(some_vectors(4, 2)), some_vectors(1, 3), k=1, metric="ip")
