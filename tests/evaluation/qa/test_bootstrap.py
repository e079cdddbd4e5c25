import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import ConfigError, DataError
from ragkit.evaluation.qa.bootstrap import (
    CHUNK_DRAWS,
    Estimate,
    bootstrap_differences,
    bootstrap_means,
)

VALUES = st.lists(st.floats(0, 1, width=16), min_size=1, max_size=30)


def generator(seed=5):
    return np.random.default_rng(seed)


@given(values=VALUES, seed=st.integers(0, 99))
def test_the_interval_is_that_of_drawing_questions_one_by_one(values, seed):
    drawn = generator(seed).integers(len(values), size=(200, len(values)))
    means = [np.mean([values[i] for i in row]) for row in drawn]

    [found] = bootstrap_means({"em": values}, generator=generator(seed), resamples=200).values()

    # Sums in another order.
    assert found.mean == pytest.approx(np.mean(values), rel=1e-12)
    assert found.low == pytest.approx(np.quantile(means, 0.025), rel=1e-12)
    assert found.high == pytest.approx(np.quantile(means, 0.975), rel=1e-12)
    assert found.questions == len(values)


@given(values=VALUES)
def test_the_mean_lies_between_the_least_and_the_greatest(values):
    [found] = bootstrap_means({"em": values}, generator=generator(), resamples=50).values()

    rounding = 1e-12
    assert min(values) - rounding <= found.low <= found.high <= max(values) + rounding


def test_draws_that_are_made_in_parts_are_those_made_at_once():
    resamples, questions = 901, CHUNK_DRAWS // 800
    values = generator().random(questions)
    drawn = generator(6).integers(questions, size=(resamples, questions))
    expected = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])

    found = bootstrap_means({"em": values}, generator=generator(6), resamples=resamples)["em"]

    # Sums in another order.
    np.testing.assert_allclose([found.low, found.high], expected, rtol=1e-12, atol=0)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    hits = 0
    for trial in range(200):
        answers = generator(trial).random(120) < 0.3
        [found] = bootstrap_means(
            {"em": answers}, generator=generator(trial + 1000), resamples=400
        ).values()
        hits += found.low <= 0.3 <= found.high

    # 95 %, give or take three standard deviations of 200 trials (1.5 points each).
    assert 0.90 <= hits / 200 <= 0.995


def test_a_wider_level_gives_a_wider_interval():
    values = {"em": generator().random(40)}

    narrow, wide = (
        bootstrap_means(values, generator=generator(), resamples=300, level=level)["em"]
        for level in (0.5, 0.95)
    )

    assert wide.low < narrow.low < narrow.high < wide.high


def test_paired_questions_narrow_a_difference():
    hard = generator().random(80)
    ours = np.clip(hard + 0.1, 0, 2)

    gain = bootstrap_differences({"f1": ours}, {"f1": hard}, generator=generator())["f1"]
    apart = bootstrap_means({"ours": ours, "theirs": hard}, generator=generator())

    assert gain.low == pytest.approx(0.1)
    assert gain.high == pytest.approx(0.1)
    assert apart["ours"].low < apart["theirs"].high


def test_one_question_has_no_spread():
    found = bootstrap_means({"em": [0.25]}, generator=generator(), resamples=3)

    assert found == {"em": Estimate(0.25, 0.25, 0.25, 1)}


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"em": []}, "one question or more"),
        ({}, "one question or more"),
        ({"em": [1, 0], "f1": [1]}, "estimate metrics of other questions apart"),
        ({"em": [float("nan"), 1]}, "leave out what cannot be scored"),
    ],
)
def test_values_without_a_mean_are_refused(values, hint):
    with pytest.raises(DataError, match=hint):
        bootstrap_means(values, generator=generator())


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"level": 1.0}, {"level": 0.0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match="must be 1 or more and level between"):
        bootstrap_means({"em": [1, 0]}, generator=generator(), **wrong)


@pytest.mark.parametrize("base", [{"f1": [1, 0, 1]}, {"em": [1, 0]}])
def test_a_difference_of_other_questions_or_metrics_is_refused(base):
    with pytest.raises(DataError, match="pair them first"):
        bootstrap_differences({"em": [1, 0, 1]}, base, generator=generator())
