import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ragkit.errors import ConfigError
from ragkit.rag.weights import default_temperature, passage_log_weights

SCORES = arrays(np.float32, (3, 5), elements=st.floats(-400, 400, width=32))


@given(scores=SCORES, temperature=st.floats(0.01, 10))
def test_the_weights_of_a_query_sum_to_one(scores, temperature):
    weights = np.exp(passage_log_weights(scores, temperature=temperature))

    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)  # float64 rounding


@given(scores=SCORES)
def test_adding_a_number_to_all_scores_changes_nothing(scores):
    scores = scores.astype(np.float64)

    weights, moved = (passage_log_weights(s, temperature=0.7) for s in (scores, scores + 300))

    np.testing.assert_allclose(moved, weights, rtol=0, atol=1e-9)  # 300 takes digits of float64


def test_empty_slots_have_no_weight_and_a_row_without_passages_stays_empty():
    scores = np.array([[2.0, 2.0, -np.inf], [-np.inf] * 3, [-700.0, -np.inf, -np.inf]])

    weights = np.exp(passage_log_weights(scores, temperature=1.0))

    np.testing.assert_allclose(weights, [[0.5, 0.5, 0], [0, 0, 0], [1, 0, 0]], rtol=1e-12)


def test_a_lower_temperature_prefers_the_best_passage():
    scores = np.array([[0.8, 0.7]])

    flat, sharp = (passage_log_weights(scores, temperature=t)[0, 0] for t in (1.0, 0.05))

    assert sharp > flat


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
def test_vectors_of_length_one_get_the_weights_of_their_cosines(metric):
    cosines = np.array([[0.71, 0.66, 0.52]])
    scores = 2 * cosines - 2 if metric == "l2" else cosines

    temperature = default_temperature(metric, normalized=True)

    weights = passage_log_weights(scores, temperature=temperature)
    expected = passage_log_weights(cosines, temperature=0.05)
    np.testing.assert_allclose(weights, expected, rtol=1e-12)


def test_other_inner_products_are_taken_as_they_are():
    assert default_temperature("ip", normalized=False) == 1.0
    assert default_temperature("cosine", normalized=False) == 0.05


@pytest.mark.parametrize("temperature", [0, -1, np.inf, np.nan])
def test_a_temperature_that_makes_no_sense_is_refused(temperature):
    with pytest.raises(ConfigError, match="above 0"):
        passage_log_weights(np.zeros((1, 2)), temperature=temperature)


@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_scores_that_are_not_numbers_are_refused(score):
    with pytest.raises(ConfigError, match="give finite scores"):
        passage_log_weights(np.array([[0.0, score]]), temperature=1.0)
