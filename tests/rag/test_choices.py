"""Options of multiple choice by their mean probability."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.decoding.mixture import mixture_request
from ragkit.decoding.shared_prefix import SplitPrompt
from ragkit.errors import CheckpointError, ConfigError
from ragkit.rag.modes import MODES
from ragkit.rag.target_scores import _mix
from tests.rag.searching import FOUND, HEAT, MODEL, TOKENIZER, WING, pipeline

QUESTION = "what is hot?"
OPTIONS = ("the heat", "a wind", "shock", "wing of it")


def encode(text):
    return TOKENIZER(text, add_special_tokens=False).input_ids


def option_prob(passage, option):
    """The probability of an option after one passage, by one forward pass in float64."""
    title = f"{passage.title}\n" if passage.title else ""
    parts = ("Background:", f" {title}{passage.text}", "\n\n", "Q:", f" {QUESTION}", "\nA:")
    prompt = [token for part in parts for token in encode(part)]
    target = encode(f" {option}")
    with torch.inference_mode():
        logits = MODEL(torch.tensor([[*prompt, *target]])).logits[0].double().log_softmax(-1)
    places = torch.arange(len(prompt) - 1, len(prompt) + len(target) - 1)
    return logits[places, target].sum().exp().item()


@pytest.mark.parametrize("mode", ["seq", "seq-rescore", "token", "token-bayes"])
def test_an_option_has_the_weighted_mean_of_its_probabilities(mode):
    choice = pipeline([WING, HEAT], mode=mode).choose(QUESTION, OPTIONS)

    weights = [passage.weight for passage in choice.passages]
    expected = [
        sum(w * option_prob(p, option) for w, p in zip(weights, (WING, HEAT), strict=True))
        for option in OPTIONS
    ]
    for log_prob, prob in zip(choice.log_probs, expected, strict=True):
        assert math.isclose(log_prob, math.log(prob), rel_tol=1e-4)  # float32 on one side
    assert choice.index == expected.index(max(expected))
    assert choice.text == OPTIONS[choice.index]


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=3)
@given(order=st.permutations(FOUND))
def test_the_order_of_the_passages_does_not_matter(mode, order):
    moved = pipeline(order, mode=mode).choose(QUESTION, OPTIONS)

    assert moved == pipeline(mode=mode).choose(QUESTION, OPTIONS)


def test_shares_of_the_options_sum_to_one():
    assert math.isclose(sum(pipeline().choose(QUESTION, OPTIONS).shares), 1)


def test_questions_may_have_different_numbers_of_options():
    rag, questions = pipeline(), [QUESTION, "a wind?", "nothing"]
    options = [OPTIONS, OPTIONS[:2], OPTIONS[1:]]

    together = rag.choose_batch(questions, options)

    alone = [rag.choose(*pair) for pair in zip(questions, options, strict=True)]
    assert [one.text for one in together] == [one.text for one in alone]
    assert [len(one.log_probs) for one in together] == [4, 2, 3]


def test_the_end_of_an_option_counts_when_asked_for():
    without, within = (
        pipeline(score_eos=score_eos).choose(QUESTION, OPTIONS) for score_eos in (False, True)
    )

    assert all(one < other for one, other in zip(within.log_probs, without.log_probs, strict=True))


def test_a_choice_is_json():
    choice = pipeline().choose(QUESTION, OPTIONS)

    assert choice.as_dict()["log_probs"] == list(choice.log_probs)
    assert choice.as_dict()["passages"][0]["id"] == "a#0"


@pytest.mark.parametrize("options", [["a"], ["a", " "], "ab"])
def test_one_option_is_no_choice(options):
    with pytest.raises(ConfigError, match="two or more options that are not empty"):
        pipeline().choose(QUESTION, options)


def test_long_options_of_another_question_take_no_room_from_this_one():
    short = pipeline(max_length=75)
    other = ["the heat of the shock and the wing " * 2, "a wind"]

    together = short.choose_batch([QUESTION, QUESTION], [OPTIONS, other])

    assert together[0].log_probs == pytest.approx(short.choose(QUESTION, OPTIONS).log_probs)


def test_each_question_needs_its_options():
    with pytest.raises(ConfigError, match="got 1 for 2 questions"):
        pipeline().choose_batch([QUESTION, QUESTION], [OPTIONS])


def test_a_prompt_without_numbers_does_not_count():
    request = mixture_request([SplitPrompt((), (5, 7)), SplitPrompt((), (9,))], [-0.2, -1.7])

    one = _mix([[-3.0, math.nan], [-4.0, -2.0]], request)

    assert one == pytest.approx([-3.0, -4.0])
    with pytest.raises(CheckpointError, match="not numbers"):
        _mix([[math.nan, math.nan]], request)
    assert _mix([[-math.inf, -math.inf]], request) == [-math.inf]
