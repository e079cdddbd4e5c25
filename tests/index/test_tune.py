import numpy as np
import pytest

from ragkit.index.faiss.ann import AnnIndex
from ragkit.index.recall import ground_truth
from ragkit.index.tune import tune
from ragkit.index.vectors import Vectors

K = 7


@pytest.fixture(scope="module")
def vectors():
    return Vectors(np.random.default_rng(0).standard_normal((4_000, 16), dtype=np.float32))


@pytest.fixture(scope="module")
def queries():
    return np.random.default_rng(1).standard_normal((90, 16), dtype=np.float32)


def tuned(factory, vectors, queries, *, recall, **options):
    ann = AnnIndex.build(factory, vectors, metric="l2", seed=0, threads=1)
    truth = ground_truth(vectors, queries, k=K, metric="l2")
    return tune(ann, vectors, queries, truth, k=K, recall=recall, **options)


@pytest.mark.parametrize("recall", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("factory", ["IVF64,Flat", "HNSW8", "IVF64,SQ8", "IVF64,PQ8x4fs"])
def test_target_is_reached(factory, recall, vectors, queries):
    tuning = tuned(factory, vectors, queries, recall=recall)

    assert tuning.reached
    assert tuning.recall >= recall


def test_no_cheaper_setting_that_was_tried_reaches_the_target(vectors, queries):
    tuning = tuned("IVF64,PQ8x4fs", vectors, queries, recall=0.9)

    chosen = [point.params for point in tuning.curve].index(tuning.params)
    assert all(point.recall < 0.9 for point in tuning.curve[:chosen])


def test_smallest_number_of_lists_is_found(vectors, queries):
    tuning = tuned("IVF64,Flat", vectors, queries, recall=0.8)

    nprobe = tuning.params["nprobe"]
    below = [point for point in tuning.curve if point.params["nprobe"] == nprobe - 1]
    assert nprobe > 1
    assert below[0].recall < 0.8


def test_higher_target_costs_more(vectors, queries):
    low, high = [
        tuned("IVF64,Flat", vectors, queries, recall=recall).params["nprobe"]
        for recall in (0.6, 0.95)
    ]

    assert low < high


def test_target_out_of_reach_gives_the_best_and_says_so(vectors, queries):
    tuning = tuned("IVF64,PQ4x4fs", vectors, queries, recall=0.99, keep_vectors=False)

    assert not tuning.reached
    assert tuning.recall == max(point.recall for point in tuning.curve)
    assert tuning.params["refine_factor"] == 1
    assert "expected recall 0.99, found 0." in tuning.explain()


def test_index_without_parameters_is_measured_once(vectors, queries):
    tuning = tuned("Flat", vectors, queries, recall=0.9)

    assert (tuning.params, tuning.recall, len(tuning.curve)) == ({}, 1.0, 1)


def test_same_data_gives_the_same_parameters(vectors, queries):
    one, two = [tuned("IVF64,SQ8", vectors, queries, recall=0.95) for _ in range(2)]

    assert one == two
