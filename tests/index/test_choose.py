import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.index.choose import EXACT, choose_ann, measure_bandwidth, num_lists
from ragkit.index.faiss.structure import validate_factory

GB = 1 << 30


def choose(num_rows, dim=384, **changed):
    inputs = {
        "metric": "cosine",
        "bytes_per_value": 4,
        "memory_bytes": 16 * GB,
        "latency_s": 0.05,
        "bandwidth": 2e10,
        "max_build_s": 1e9,
    }
    return choose_ann(num_rows, dim, **inputs | changed)


@pytest.mark.parametrize(
    ("num_rows", "changed", "family"),
    [
        (0, {}, EXACT),
        (9_999, {"latency_s": 1e-9}, EXACT),
        (650_000, {}, EXACT),
        (660_000, {}, "HNSW32"),
        (650_000, {"bytes_per_value": 2}, EXACT),
        (660_000, {"bytes_per_value": 2}, "HNSW32"),
        (217_000, {"bytes_per_value": 2, "metric": "l2"}, EXACT),
        (218_000, {"bytes_per_value": 2, "metric": "l2"}, "HNSW32"),
        (5_000_000, {}, "HNSW32"),
        (5_000_001, {"memory_bytes": 999 * GB}, "IVF"),
        (2_000_000, {"max_build_s": 900.0}, EXACT),
    ],
)
def test_each_rule_of_the_table_applies_at_its_boundary(num_rows, changed, family):
    choice = choose(num_rows, **changed)

    assert choice.factory.startswith(family)
    assert choice.reason


def test_less_memory_gives_shorter_codes():
    factories = [
        choose(20_000_000, memory_bytes=memory * GB).factory.split(",")[1] for memory in (64, 16, 4)
    ]

    assert factories == ["Flat", "SQ8", "PQ96x4fs"]


@given(
    num_rows=st.integers(0, 10**9),
    dim=st.integers(1, 4096),
    memory=st.integers(GB // 64, 512 * GB),
)
def test_choice_fits_the_memory_or_says_that_nothing_does(num_rows, dim, memory):
    choice = choose(num_rows, dim, memory_bytes=memory)

    assert choice.size_bytes <= memory
    for other in choice.runners_up:
        assert other.size_bytes <= memory
    assert choice.factory not in {other.factory for other in choice.runners_up}


@given(num_rows=st.integers(10_000, 10**9))
def test_every_list_has_rows_to_train_on(num_rows):
    lists = num_lists(num_rows)

    assert 30 * lists <= num_rows
    assert lists & (lists - 1) == 0


@pytest.mark.parametrize("dim", [7, 24])
def test_all_that_may_be_chosen_can_be_built(dim):
    choice = choose(3_000_000, dim, latency_s=1e-9)

    for some in (choice, *choice.runners_up):
        if some.factory != EXACT:
            validate_factory(some.factory, dim, "cosine")


def test_choice_is_a_pure_function():
    assert dataclasses.asdict(choose(2_000_000)) == dataclasses.asdict(choose(2_000_000))


def test_bandwidth_is_plausible():
    assert 1e8 < measure_bandwidth() < 1e13
