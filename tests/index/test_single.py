import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.index import exact
from ragkit.index.exact import search_exact
from ragkit.index.single import best_rows
from ragkit.index.vectors import Vectors, encode


@given(rows=st.integers(0, 45), k=st.integers(1, 50), seed=st.integers(0, 99))
def test_finds_the_largest_of_whole_products(rows, k, seed):
    # Small whole numbers: every product is exact, and there are many ties.
    rng = np.random.default_rng(seed)
    stored = rng.integers(-3, 4, (rows, 5)).astype(np.float32)
    query = rng.integers(-3, 4, 5).astype(np.float32)

    scores, found = best_rows(stored, query, k=k)

    num_found = min(k, rows)
    products = stored @ query
    assert scores[:num_found].tolist() == sorted(products, reverse=True)[:k]
    assert len(set(found[:num_found])) == num_found
    np.testing.assert_array_equal(products[found[:num_found]], scores[:num_found])
    assert (found[num_found:] == -1).all()
    assert np.isneginf(scores[num_found:]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
def test_reads_what_is_stored_as_numpy_does(dtype):
    rng = np.random.default_rng(1)
    stored = (20 * rng.standard_normal((233, 37))).astype(dtype)
    query = rng.standard_normal(37).astype(np.float32)

    scores, rows = best_rows(stored, query, k=11)

    products = stored.astype(np.float64) @ query.astype(np.float64)
    expected = np.argsort(-products)[:11]
    assert rows.tolist() == expected.tolist()
    np.testing.assert_allclose(scores, products[expected], rtol=1e-5)  # fp32 sums of 37 products


def test_scores_that_are_not_finite_are_not_found():
    stored = np.array([[1, 0], [np.nan, 0], [np.inf, 0], [-np.inf, 0], [2, 0]], np.float32)

    scores, rows = best_rows(stored, np.array([1, 0], np.float32), k=4)

    assert rows.tolist() == [4, 0, -1, -1]
    assert scores.tolist() == [2.0, 1.0, -np.inf, -np.inf]


@pytest.mark.parametrize("dtype", ["f32", "f16", "i8"])
@pytest.mark.parametrize("threads", [1, 3])
def test_one_query_of_a_large_index_finds_what_a_batch_finds(dtype, threads, monkeypatch):
    monkeypatch.setattr(exact, "COMPILE_ABOVE_VALUES", 0)
    monkeypatch.setattr(exact, "VALUES_PER_THREAD", 1 << 10)
    rng = np.random.default_rng(2)
    values = rng.standard_normal((2500, 6), np.float32)
    scale = np.abs(values).max(axis=0) / 127 if dtype == "i8" else None
    vectors = Vectors(encode(values, dtype, scale), scale)
    monkeypatch.setattr(vectors, "decoded", lambda: vectors)  # as an index too large to decode
    queries = rng.standard_normal((5, 6), np.float32)

    batch_scores, batch_rows = search_exact(vectors, queries, k=9, metric="ip", threads=1)
    found = [
        search_exact(vectors, query[None], k=9, metric="ip", threads=threads) for query in queries
    ]

    assert np.concatenate([rows for _, rows in found]).tolist() == batch_rows.tolist()
    scores = np.concatenate([scores for scores, _ in found])
    np.testing.assert_allclose(scores, batch_scores, rtol=1e-5, atol=1e-6)  # fp32 sums


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_do_not_change_the_scores_of_one_query(threads, monkeypatch):
    monkeypatch.setattr(exact, "COMPILE_ABOVE_VALUES", 0)
    monkeypatch.setattr(exact, "VALUES_PER_THREAD", 1 << 10)
    rng = np.random.default_rng(3)
    vectors = Vectors(rng.standard_normal((7003, 19), np.float32))
    query = rng.standard_normal((1, 19), np.float32)

    one = search_exact(vectors, query, k=500, metric="ip", threads=1)
    many = search_exact(vectors, query, k=500, metric="ip", threads=threads)

    np.testing.assert_array_equal(one[0], many[0])
    np.testing.assert_array_equal(one[1], many[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("size", [1e-30, 1e5, 1e30])
def test_queries_of_any_size_find_the_same_rows(dtype, size):
    rng = np.random.default_rng(4)
    stored = rng.standard_normal((1003, 13)).astype(dtype)
    query = rng.standard_normal(13).astype(np.float32)
    _, expected = best_rows(stored, query, k=9)

    scores, rows = best_rows(stored, query * np.float32(size), k=9)

    assert rows.tolist() == expected.tolist()
    assert np.isfinite(scores).all()
