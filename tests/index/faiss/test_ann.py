import threading

import numpy as np
import pytest

from ragkit.errors import ConfigError, IndexCorruptError, ShapeError
from ragkit.index.exact import search_exact
from ragkit.index.faiss import train
from ragkit.index.faiss.ann import AnnIndex
from ragkit.index.vectors import Vectors

DIM = 24
ROWS = 2_500

FACTORIES = {
    "Flat": {},
    "SQ8": {"refine_factor": 4},
    "PQ6x4fs": {"refine_factor": 64},
    "HNSW16": {"efSearch": 200},
    "HNSW16,SQfp16": {"efSearch": 200, "refine_factor": 2},
    "IVF16,Flat": {"nprobe": 16},
    "IVF16_HNSW8,Flat": {"nprobe": 16},
    "IVF16,SQ8": {"nprobe": 16, "refine_factor": 4},
    "IVF16,PQ6x4fs": {"nprobe": 16, "refine_factor": 64},
    "IVF16,RaBitQ": {"nprobe": 16, "refine_factor": 64},
    "IVF16,PQ6x4fs,RFlat": {"nprobe": 16, "refine_factor": 64},
    "PCA12,IVF16,Flat": {"nprobe": 16, "refine_factor": 32},
    "OPQ6,IVF16,PQ6x4fs": {"nprobe": 16, "refine_factor": 64},
    "PCA12,HNSW16": {"efSearch": 200, "refine_factor": 32},
}


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((ROWS, 8)) @ rng.standard_normal((8, DIM))
    values += 0.1 * rng.standard_normal((ROWS, DIM))
    return Vectors((values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32))


@pytest.fixture(scope="module")
def queries(vectors):
    return vectors.take(np.arange(0, ROWS, 19))  # 132: more than one task, the last one smaller


def build(factory, vectors, *, metric="ip", threads=1, **options):
    return AnnIndex.build(factory, vectors, metric=metric, seed=3, threads=threads, **options)


def saved(ann, path):
    with path.open("wb") as file:
        ann.write(file)
    return path


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("factory", FACTORIES)
def test_thorough_search_of_a_mapped_index_agrees_with_exact_search(
    factory, metric, vectors, queries, tmp_path
):
    path = saved(build(factory, vectors, metric=metric), tmp_path / "ann.faiss")
    ann = AnnIndex.open(path, expect_dim=DIM, expect_rows=ROWS, expect_metric=metric)

    scores, rows = ann.search(queries, k=5, params=FACTORIES[factory], threads=1, vectors=vectors)

    true_scores, true_rows = search_exact(vectors, queries, k=5, metric=metric)
    recall = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(rows, true_rows, strict=True)])
    assert recall > 0.97
    assert set(ann.parameters) == set(FACTORIES[factory])
    assert (np.diff(scores, axis=1) <= 0).all()
    np.testing.assert_allclose(scores[:, 0], true_scores[:, 0], atol=1e-5)


@pytest.mark.parametrize("factory", ["Flat", "HNSW16", "IVF16,Flat", "IVF16,PQ6x4fs"])
def test_results_are_the_same_for_any_number_of_threads(factory, vectors, queries):
    ann = build(factory, vectors)

    one, two = [ann.search(queries, k=4, threads=threads, vectors=vectors) for threads in (1, 2)]

    np.testing.assert_array_equal(one[1], two[1])
    np.testing.assert_array_equal(one[0], two[0])


def test_calls_with_different_parameters_do_not_disturb_each_other(vectors, queries):
    ann = build("IVF16,Flat", vectors)
    expected = {n: ann.search(queries, k=4, params={"nprobe": n})[1] for n in (1, 16)}
    wrong = []

    def search_often(nprobe):
        for _ in range(20):
            found = ann.search(queries, k=4, params={"nprobe": nprobe}, threads=1)[1]
            if not np.array_equal(found, expected[nprobe]):
                wrong.append(nprobe)

    workers = [threading.Thread(target=search_often, args=(n,)) for n in (1, 16, 1, 16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert not np.array_equal(expected[1], expected[16])
    assert not wrong


def test_slots_that_stay_empty_hold_no_row(vectors):
    ann = build("IVF16,Flat", vectors)

    scores, rows = ann.search(vectors.read(0, 1), k=ROWS, params={"nprobe": 1})

    empty = rows < 0
    assert empty.any()
    assert not empty[0, 0]
    assert np.isneginf(scores[empty]).all()


def test_l2_scores_are_negative_distances(vectors):
    ann = build("HNSW16", vectors, metric="l2")

    scores, rows = ann.search(vectors.read(7, 8), k=2)

    assert rows[0, 0] == 7
    assert scores[0, 0] == 0
    assert scores[0, 1] < 0


@pytest.mark.parametrize(
    "factory", ["HNSW16", pytest.param("OPQ6,IVF16,PQ6x4fs", marks=pytest.mark.slow)]
)
def test_deterministic_build_does_not_depend_on_the_number_of_threads(factory, vectors, tmp_path):
    one, two = [
        saved(
            build(factory, vectors, threads=threads, deterministic=True), tmp_path / str(threads)
        ).read_bytes()
        for threads in (1, 2)
    ]

    assert one == two


@pytest.mark.parametrize("dim", [1, 7])
@pytest.mark.parametrize("rows", [1, 9])
def test_tiny_indexes_return_what_they_have(dim, rows):
    few = Vectors(np.random.default_rng(0).standard_normal((rows, dim), dtype=np.float32))

    _, found = build("HNSW8", few, metric="l2").search(few.read(0, 1), k=10)

    assert found.shape == (1, rows)
    assert sorted(found[0]) == list(range(rows))


def test_index_without_rows_finds_nothing():
    nothing = Vectors(np.empty((0, 3), np.float32))

    scores, rows = build("HNSW8", nothing).search(np.ones((2, 3), np.float32), k=10)

    assert scores.shape == rows.shape == (2, 0)


def test_sample_is_drawn_over_all_rows(vectors, monkeypatch):
    monkeypatch.setattr(train, "MIN_SAMPLE", 600)
    monkeypatch.setattr(train, "SAMPLE_PER_LIST", 40)
    numbered = Vectors(np.arange(ROWS, dtype=np.float32)[:, None])

    structure = build("IVF16,Flat", vectors).structure
    sample = train.draw_sample(numbered, structure, seed=1)[:, 0]

    assert len(set(sample)) == 640
    assert abs(sample.mean() - ROWS / 2) < 100
    assert not np.array_equal(sample, train.draw_sample(numbered, structure, seed=2)[:, 0])


def test_too_few_rows_for_the_lists_are_refused(vectors):
    with pytest.raises(ConfigError, match="at most 83 lists, or exact"):
        build("IVF84,Flat", vectors)


@pytest.mark.parametrize(
    ("params", "hint"),
    [({"efSearch": 3}, "it has: nprobe"), ({"nprobe": 0}, "between 1 and 16")],
)
def test_wrong_parameters_are_refused(params, hint, vectors, queries):
    with pytest.raises(ConfigError, match=hint):
        build("IVF16,Flat", vectors).search(queries, k=3, params=params)


def test_wrong_queries_are_refused(vectors):
    ann = build("Flat", vectors)

    with pytest.raises(ShapeError, match="encoder of the index"):
        ann.search(np.ones((2, DIM + 1), np.float32), k=3)
    with pytest.raises(ConfigError, match="at least 1"):
        ann.search(np.ones((2, DIM), np.float32), k=0)


def test_row_that_cannot_be_is_corruption(vectors, queries):
    ann = build("IVF16,Flat", vectors)
    ann.index.ntotal = 100

    with pytest.raises(IndexCorruptError, match="rebuild"):
        ann.search(queries, k=3, params={"nprobe": 16})
