"""Drawn tokens follow the distribution of transformers' processors, each row on its own."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers import LogitsProcessor

from ragkit.decoding import GenerationOptions, generate_tokens
from ragkit.decoding.logits_processors import build_chain
from ragkit.decoding.sampling import Chooser, draw_tokens, draw_uniform
from tests.decoding.tiny import tiny_llama

CPU = torch.device("cpu")
LOGITS = torch.tensor([2.0, 1.0, 0.5, -0.5, -1.0, -30.0, 0.0])
OPTIONS = st.builds(
    GenerationOptions,
    temperature=st.floats(0.2, 3),
    top_k=st.none() | st.integers(1, 9),
    top_p=st.none() | st.floats(0.1, 1),
    min_p=st.none() | st.floats(0, 1),
    repetition_penalty=st.sampled_from([1.0, 0.7, 1.9]),
)


def drawn(model, prompts, **options):
    chosen = GenerationOptions(**{"temperature": 1.1, "max_new_tokens": 7, **options})
    return [one.tokens for one in generate_tokens(model, prompts, options=chosen, batch_size=3)]


@settings(max_examples=40)
@given(options=OPTIONS, prompt=st.lists(st.integers(0, 40), min_size=1, max_size=9))
def test_scores_equal_those_that_transformers_draws_from(options, prompt):
    model = tiny_llama(vocab_size=41)
    ids = torch.tensor([prompt])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        max_new_tokens=1,
        temperature=options.temperature,
        top_k=options.top_k or 0,
        top_p=1.0 if options.top_p is None else options.top_p,
        min_p=options.min_p,
        repetition_penalty=options.repetition_penalty,
        output_logits=True,
        output_scores=True,
        return_dict_in_generate=True,
        pad_token_id=0,
    )

    scores = output.logits[0]
    for processor in build_chain(options, padding=[0], device=CPU):
        scores = processor(ids, scores)

    torch.testing.assert_close(scores, output.scores[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.6},
        {"top_k": 3},
        {"top_p": 0.8},
        {"min_p": 0.2},
        {"temperature": 1.7, "top_k": 5, "top_p": 0.9, "min_p": 0.05},
    ],
    ids=str,
)
def test_tokens_are_as_frequent_as_their_probability(options):
    chosen = GenerationOptions(**{"temperature": 1.0, "max_new_tokens": 1, **options})
    num_rows = 4000
    chooser = Chooser(
        [[0]] * num_rows, options=chosen, samples=range(num_rows), num_steps=1, device=CPU
    )
    scores = LOGITS[None]
    for processor in build_chain(chosen, padding=[0], device=CPU):
        scores = processor(torch.tensor([[0]]), scores)
    probabilities = scores.softmax(-1)[0].double().numpy()

    tokens = chooser.choose(LOGITS.expand(num_rows, -1))

    counts = np.bincount(tokens.numpy(), minlength=len(LOGITS))
    likely = probabilities > 1e-6  # the chi-square law needs some expected draws in each cell
    assert counts[~likely].sum() == 0
    expected = probabilities[likely] / probabilities[likely].sum() * num_rows
    # The seed is fixed: a draw this rare would be a fault of the code.
    assert chisquare(counts[likely], expected).pvalue > 0.001


@given(
    logits=st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=11),
    uniform=st.floats(0, 1, exclude_max=True),
)
def test_a_number_falls_into_the_interval_of_its_token(logits, uniform):
    scores = torch.tensor([logits])
    cumulative = np.cumsum(scores.softmax(-1)[0].double().numpy())

    [token] = draw_tokens(scores, torch.tensor([uniform], dtype=torch.float64)).tolist()

    level = uniform * cumulative[-1]
    assert level < cumulative[token]
    assert token == 0 or level >= cumulative[token - 1]


@given(forbidden=st.sets(st.integers(0, 9), max_size=9), uniform=st.floats(0, 1, exclude_max=True))
def test_a_forbidden_token_is_never_drawn(forbidden, uniform):
    scores = torch.zeros(1, 10)
    scores[0, sorted(forbidden)] = -float("inf")

    [token] = draw_tokens(scores, torch.tensor([uniform], dtype=torch.float64)).tolist()

    assert token not in forbidden


@settings(max_examples=15)
@given(
    prompts=st.lists(
        st.lists(st.integers(3, 292), min_size=1, max_size=6).map(tuple),
        min_size=2,
        max_size=6,
        unique=True,
    ),
    seed=st.integers(0, 2**63 - 1),
)
def test_a_text_does_not_depend_on_its_company(prompts, seed):
    model = tiny_llama()

    together = drawn(model, prompts, seed=seed)

    assert together == [drawn(model, [prompt], seed=seed)[0] for prompt in prompts]
    assert together == drawn(model, prompts[::-1], seed=seed)[::-1]


def test_equal_prompts_draw_different_texts_and_other_seeds_others():
    model = tiny_llama()

    texts = drawn(model, [[7, 8]] * 4) + drawn(model, [[7, 8]] * 4, seed=1)

    assert len(set(texts)) == 8


def test_a_longer_text_begins_like_a_shorter_one():
    model = tiny_llama()

    [short], [long] = (drawn(model, [[7, 8]], max_new_tokens=count) for count in (5, 33))

    assert long[:5] == short


def test_random_numbers_are_a_row_of_their_own_and_below_one():
    numbers = draw_uniform([5, 6], seed=0, sample=0, num_steps=2000)

    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert not torch.equal(numbers, draw_uniform([5, 6], seed=0, sample=1, num_steps=2000))


class Allow(LogitsProcessor):
    """Forbids all tokens but one, which the last token of the history tells."""

    def __call__(self, input_ids, scores):
        allowed = torch.full_like(scores, -float("inf"))
        following = (input_ids[:, -1:] + 1) % scores.shape[-1]
        return allowed.scatter(1, following, 0.0)


@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_your_own_processor_sees_the_history_of_its_row(temperature):
    model = tiny_llama(eos_token_id=9)
    options = GenerationOptions(temperature=temperature, max_new_tokens=4)

    found = generate_tokens(
        model, [[7], [5, 200], [20, 3, 100]], options=options, processors=[Allow()]
    )

    assert [one.tokens for one in found] == [(8, 9), (201, 202, 203, 204), (101, 102, 103, 104)]
