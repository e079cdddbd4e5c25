import logging

import pytest

from ragkit.errors import ConfigError
from ragkit.index.faiss.structure import inspect, make_index, validate_factory


@pytest.mark.parametrize(
    "factory",
    [
        "Flat",
        "IVF65536,Flat",
        "IVF262144_HNSW32,PQ6x4fs",
        "OPQ6,IVF1024,PQ6",
        "HNSW32,SQ8",
        "PCA4,Flat",
    ],
)
def test_factory_strings_of_large_indexes_are_tried_small(factory):
    validate_factory(factory, 24, "cosine")


@pytest.mark.parametrize(
    ("factory", "hint"),
    [
        ("IVF16,Nonsense", "expected a faiss factory string"),
        ("", "expected a faiss factory string"),
        ("IVF16,PQ7", "24 dimensions"),
        ("PCA99,Flat", "another index type"),
        ("IDMap,Flat", "leave IDMap out"),
        ("HNSW16,PQ6", "l2 only"),
    ],
)
def test_impossible_factory_strings_are_refused(factory, hint):
    with pytest.raises(ConfigError, match=hint):
        validate_factory(factory, 24, "ip")


def test_chatter_of_the_trial_is_summarised(capfd, caplog):
    caplog.set_level(logging.INFO, logger="ragkit")

    validate_factory("IVF16,PQ6", 24, "l2")

    assert "clustering" not in capfd.readouterr().err
    assert "WARNING clustering 2000 points" in caplog.text


@pytest.mark.parametrize(
    ("factory", "kind", "lossy", "refines", "packed"),
    [
        ("Flat", "flat", False, False, False),
        ("HNSW8", "hnsw", False, False, False),
        ("HNSW8,SQ8", "hnsw", True, False, False),
        ("IVF16,Flat", "ivf", False, False, False),
        ("PCA4,IVF16,Flat", "ivf", True, False, False),
        ("IVF16,PQ4x4fs", "ivf", True, False, True),
        ("IVF16,PQ4x4fs,RFlat", "ivf", False, True, True),
        ("NSG8", "other", True, False, False),
    ],
)
def test_structure_is_seen_through_wrappers(factory, kind, lossy, refines, packed):
    found = inspect(make_index(factory, 8, metric="l2"))

    assert (found.kind, found.lossy, found.refines, found.packed) == (kind, lossy, refines, packed)
