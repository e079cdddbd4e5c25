import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.nn import functional as F

from ragkit.errors import ConfigError, DataError
from ragkit.finetune.radit.lsr import (
    entropy_share,
    lm_scores,
    lsr_loss,
    require_useful_targets,
    target_log_probs,
)

KINDS = ["prob", "geo_prob", "mean_logprob", "sum_logprob"]


def random_sums(queries=5, k=4, *, seed=0):
    """Sums of log-likelihoods and token counts; the last slots of some queries are empty."""
    rng = np.random.default_rng(seed)
    tokens = np.repeat(rng.integers(1, 9, (queries, 1)), k, axis=1)
    sums = -rng.gamma(2.0, 0.5, (queries, k)) * tokens
    for query in range(queries):
        empty = k - query % (k - 1)
        sums[query, empty:], tokens[query, empty:] = -np.inf, 0
    return sums.astype(np.float32), tokens


def random_scores(batch=5, k=4, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, k, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [0.01, 0.3, 1.0])
def test_targets_are_the_softmax_of_the_scores(kind, temperature):
    sums, tokens = random_sums()

    found = target_log_probs(sums, tokens, kind=kind, temperature=temperature)

    for sum_row, token_row, row in zip(sums.astype(np.float64), tokens, found, strict=True):
        full = np.isfinite(sum_row)
        mean = sum_row[full] / token_row[full]
        scores = dict(
            zip(KINDS, (np.exp(sum_row[full]), np.exp(mean), mean, sum_row[full]), strict=True)
        )[kind]
        expected = F.log_softmax(torch.from_numpy(scores / temperature), dim=0).numpy()
        np.testing.assert_allclose(row[full], expected, rtol=1e-6, atol=1e-6)  # float32
        assert np.isneginf(row[~full]).all()
    assert found.dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
def test_very_unlikely_targets_give_finite_targets(kind):
    sums = np.array([[-900.0, -905.0, -5000.0]], np.float32)

    found = target_log_probs(sums, np.full((1, 3), 50), kind=kind, temperature=0.01)

    assert np.isfinite(found).all()


@pytest.mark.parametrize("missing", [-np.inf, np.nan, np.inf])
def test_a_slot_without_a_finite_score_gets_nothing(missing):
    sums = np.array([[-1.0, missing, -3.0], [-1.0, -2.0, -3.0]])

    found = target_log_probs(sums, np.full((2, 3), 7))

    assert np.isneginf(found[0, 1])
    without = target_log_probs(sums[:1, [0, 2]], np.full((1, 2), 7))
    np.testing.assert_array_equal(found[0, [0, 2]], without[0])


def test_a_query_without_any_score_is_refused():
    sums = np.array([[-1.0, -2.0], [np.nan, -np.inf]])

    with pytest.raises(DataError, match="number 1: drop them, or score them again"):
        target_log_probs(sums, np.full((2, 2), 3))


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan, np.inf])
def test_a_senseless_temperature_is_refused(temperature):
    with pytest.raises(ConfigError, match="must be above 0"):
        target_log_probs(*random_sums(), temperature=temperature)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="must be one of prob, geo_prob"):
        lm_scores(*random_sums(), kind="odds")


def test_a_sweep_of_temperatures_goes_from_one_hot_to_uniform():
    sums, tokens = random_sums()

    shares = [
        entropy_share(target_log_probs(sums, tokens, temperature=temperature))
        for temperature in (1e-4, 0.01, 0.1, 1.0, 100.0)
    ]

    assert shares == sorted(shares)
    assert shares[0] < 0.01
    assert shares[-1] > 0.9999


@given(st.integers(2, 9), st.integers(0, 6))
def test_equal_weights_have_all_the_entropy(count, empty):
    targets = np.full((3, count + empty), -np.log(count))
    targets[:, count:] = -np.inf

    assert entropy_share(targets) == pytest.approx(1, abs=1e-12)


def test_queries_with_one_passage_have_no_part_in_the_entropy():
    targets = np.log([[0.5, 0.5], [1.0, 1e-300]])
    targets[1, 1] = -np.inf

    assert entropy_share(targets) == pytest.approx(1, abs=1e-12)
    assert np.isnan(entropy_share(targets[1:]))


def test_the_likelihood_of_a_long_target_teaches_nothing():
    sums = np.array([[-120.0, -125.0, -131.0, -140.0]])
    tokens = np.full((1, 4), 50)

    with pytest.raises(DataError, match="a lower one, or the score kind geo_prob"):
        require_useful_targets(target_log_probs(sums, tokens, kind="prob"))
    share = require_useful_targets(target_log_probs(sums, tokens, kind="geo_prob"))
    assert 0.05 < share < 0.98


def test_unusual_targets_are_warned_of(caplog):
    nearly_equal = np.log([[0.55, 0.45]])

    with caplog.at_level(logging.WARNING, logger="ragkit"):
        require_useful_targets(nearly_equal)

    assert "usual are 0.05 to 0.98" in caplog.text


@pytest.mark.parametrize("targets", [[[0.0, -200.0]], [[0.0, -np.inf]]])
def test_targets_that_name_one_passage_are_refused(targets):
    with pytest.raises(DataError, match="there is nothing to learn from them"):
        require_useful_targets(np.array(targets))


@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_the_loss_is_the_divergence_of_the_two(direction):
    scores, log_t = random_scores(), F.log_softmax(random_scores(seed=1), dim=-1)

    loss = lsr_loss(scores, log_t, direction=direction)

    log_p = F.log_softmax(scores, dim=-1)
    one, other = (log_p, log_t) if direction == "reverse" else (log_t, log_p)
    torch.testing.assert_close(loss, F.kl_div(other, one, log_target=True, reduction="sum"))
    assert lsr_loss(log_t, log_t, direction=direction).abs() < 1e-12


@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_the_gradient_is_the_one_on_paper(direction):
    scores = random_scores().requires_grad_()
    log_t = F.log_softmax(random_scores(seed=1) / 0.1, dim=-1)

    lsr_loss(scores, log_t, direction=direction).backward()

    log_p = F.log_softmax(scores.detach(), dim=-1)
    p, gap = log_p.exp(), log_p - log_t
    divergence = (p * gap).sum(-1, keepdim=True)
    expected = p * (gap - divergence) if direction == "reverse" else p - log_t.exp()
    torch.testing.assert_close(scores.grad, expected, rtol=1e-9, atol=1e-12)
    again = scores.detach().requires_grad_()
    assert gradcheck(lambda x: lsr_loss(x, log_t, direction=direction), again)


@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_empty_slots_take_no_part(direction):
    scores, log_t = random_scores(3, 6), torch.full((3, 6), -torch.inf, dtype=torch.float64)
    places = [[0, 1, 2, 3, 4, 5], [1, 4], [3]]
    for row, kept in enumerate(places):
        log_t[row, kept] = F.log_softmax(random_scores(1, len(kept), seed=row)[0], dim=-1)
    scores[log_t.isneginf()] = 300.0
    scores.requires_grad_()

    loss = lsr_loss(scores, log_t, direction=direction)
    loss.backward()

    alone = [
        lsr_loss(scores[[row]][:, kept], log_t[[row]][:, kept], direction=direction)
        for row, kept in enumerate(places)
    ]
    torch.testing.assert_close(loss, sum(alone))
    assert (scores.grad[log_t.isneginf()] == 0).all()
    assert (scores.grad[2] == 0).all()  # one passage leaves no choice
    assert (scores.grad[:2][log_t[:2].isfinite()] != 0).all()


def test_a_batch_without_any_passage_has_neither_loss_nor_gradient():
    scores = random_scores(2, 3).requires_grad_()

    loss = lsr_loss(scores, torch.full((2, 3), -torch.inf, dtype=torch.float64))
    loss.backward()

    assert loss == 0
    assert (scores.grad == 0).all()


@given(shift=st.floats(-300, 300))
def test_adding_to_all_scores_changes_nothing(shift):
    scores, log_t = random_scores(), F.log_softmax(random_scores(seed=1), dim=-1)

    torch.testing.assert_close(lsr_loss(scores + shift, log_t), lsr_loss(scores, log_t))


@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_reversing_the_lm_scores_reverses_the_gradient(direction):
    scores = torch.zeros(5, 4, dtype=torch.float64, requires_grad=True)
    # Odd around its mean: log-targets of the reversed scores are these with the other sign.
    lm = torch.tensor([[-2.0, -1.0, 1.0, 2.0]], dtype=torch.float64).expand(5, 4)

    gradients = [
        torch.autograd.grad(
            lsr_loss(scores, F.log_softmax(sign * lm, dim=-1), direction=direction), scores
        )[0]
        for sign in (1, -1)
    ]

    assert (gradients[0].sign() == -gradients[1].sign()).all()
    assert (gradients[0].sign() == -lm.sign()).all()
