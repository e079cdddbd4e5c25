"""Every mode against its definition, with a model whose every text can be scored by itself."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.decoding import GenerationOptions, generate_tokens
from ragkit.decoding.detokenizing import decode_tokens
from ragkit.decoding.mixture import mixture_request
from ragkit.decoding.shared_prefix import SplitPrompt
from ragkit.rag.modes import MODES, AnswerWriter
from tests.decoding.tiny import tiny_llama
from tests.rag.searching import MODEL, TOKENIZER

PROMPTS = ([5, 6, 7], [8, 9, 10, 11], [60, 61], [90, 92])
WEIGHTS = (0.4, 0.3, 0.2, 0.1)


def request(prompts=PROMPTS, weights=WEIGHTS):
    parts = [SplitPrompt(tuple(one[:-1]), tuple(one[-1:])) for one in prompts]
    return mixture_request(parts, np.log(weights).tolist())


def writer(mode, *, model=MODEL, score_eos=False, **options):
    chosen = GenerationOptions(**{"max_new_tokens": 6, **options})
    return AnswerWriter(model, TOKENIZER, mode=mode, options=chosen, score_eos=score_eos)


def write(mode, requests, **settings):
    return writer(mode, **settings).write(requests, batch_size=2)


def log_prob(model, prompt, text):
    """The log-probability of tokens after a prompt, by one forward pass in float64."""
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *text]])).logits[0].double().log_softmax(-1)
    places = torch.arange(len(prompt) - 1, len(prompt) + len(text) - 1)
    return logits[places, list(text)].sum().item()


def ending_model():
    """Two tokens end its texts, and it likes to end them soon: prompts agree on short ones."""
    model = tiny_llama(initializer_range=0.05, max_position_embeddings=96)
    model.generation_config.eos_token_id = list(range(0, 293, 2))
    return model


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=5)
@given(prompt=st.lists(st.integers(3, 292), min_size=1, max_size=9))
def test_with_one_prompt_every_mode_is_plain_decoding(mode, prompt):
    [draft] = write(mode, [request([prompt], [1.0])])

    options = GenerationOptions(max_new_tokens=6)
    [plain] = generate_tokens(MODEL, [prompt], options=options)
    assert draft.generation.tokens == plain.tokens
    assert math.isclose(
        draft.log_score, log_prob(MODEL, prompt, plain.tokens), rel_tol=1e-4
    )  # float32 on one side


def test_seq_takes_the_answer_of_the_largest_sum():
    model, options = ending_model(), GenerationOptions(max_new_tokens=6)
    written = [generate_tokens(model, [prompt], options=options)[0].tokens for prompt in PROMPTS]
    sums = {}
    for prompt, weight, tokens in zip(PROMPTS, WEIGHTS, written, strict=True):
        spelling = tokens[:-1] if tokens[-1] % 2 == 0 else tokens
        text = decode_tokens(TOKENIZER, list(spelling)).strip()
        share = weight * math.exp(log_prob(model, prompt, spelling or tokens))
        sums[text] = sums.get(text, 0) + share

    [draft] = write("seq", [request()], model=model)

    assert draft.text == max(sums, key=sums.get)
    assert math.isclose(draft.log_score, math.log(sums[draft.text]), rel_tol=1e-4)  # float32


def test_seq_rescore_scores_every_answer_under_all_prompts():
    options = GenerationOptions(max_new_tokens=6)
    model = tiny_llama(initializer_range=0.1)
    written = [generate_tokens(model, [prompt], options=options)[0].tokens for prompt in PROMPTS]
    totals = {
        tokens: sum(
            weight * math.exp(log_prob(model, prompt, tokens))
            for prompt, weight in zip(PROMPTS, WEIGHTS, strict=True)
        )
        for tokens in written
    }

    [draft] = write("seq-rescore", [request()], model=model)

    assert draft.generation.tokens == max(totals, key=totals.get)
    best = totals[draft.generation.tokens]
    assert math.isclose(draft.log_score, math.log(best), rel_tol=1e-4)  # float32


def test_the_score_of_token_bayes_is_that_of_the_sum_over_prompts():
    [draft] = write("token-bayes", [request()])

    total = sum(
        weight * math.exp(log_prob(MODEL, prompt, draft.generation.tokens))
        for prompt, weight in zip(PROMPTS, WEIGHTS, strict=True)
    )
    assert math.isclose(draft.log_score, math.log(total), rel_tol=1e-4)  # float32


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=4)
@given(order=st.permutations(range(4)))
def test_the_order_of_the_prompts_changes_no_answer(mode, order):
    moved = request([PROMPTS[place] for place in order], [WEIGHTS[place] for place in order])

    [draft] = write(mode, [moved])

    [expected] = write(mode, [request()])
    assert draft.text == expected.text
    assert math.isclose(draft.log_score, expected.log_score, rel_tol=1e-5)  # float32 sums


@pytest.mark.parametrize("mode", MODES)
def test_questions_run_beside_each_other(mode):
    requests = [request(), request([[7]], [1.0]), request(PROMPTS[:2], (0.5, 0.5))]

    together = write(mode, requests)

    alone = [write(mode, [one])[0] for one in requests]
    assert [draft.text for draft in together] == [draft.text for draft in alone]


@pytest.mark.parametrize("mode", ["seq", "seq-rescore"])
def test_of_equal_scores_the_weightier_passage_wins_then_the_alphabet(mode):
    # A model without weights gives every token the same probability.
    model = tiny_llama(initializer_range=0.0)
    model.lm_head.weight.data.zero_()

    [draft] = write(mode, [request(PROMPTS[:2], (0.5, 0.5))], model=model)

    assert draft.generation.tokens == (0,) * 6


@pytest.mark.parametrize("score_eos", [True, False])
def test_the_end_counts_only_when_asked_for(score_eos):
    model = ending_model()
    [draft] = write("concat", [request([[5, 6]], [1.0])], model=model, score_eos=score_eos)
    tokens = draft.generation.tokens
    assert draft.generation.finish_reason == "stop"
    assert len(tokens) > 1

    scored = tokens if score_eos else tokens[:-1]

    assert math.isclose(draft.log_score, log_prob(model, [5, 6], scored), rel_tol=1e-4)  # float32


def test_an_empty_answer_is_scored_by_its_end():
    model = tiny_llama(initializer_range=0.1)
    model.generation_config.eos_token_id = list(range(293))

    [draft] = write("seq", [request([[5, 6]], [1.0])], model=model)

    assert draft.text == ""
    expected = log_prob(model, [5, 6], draft.generation.tokens)
    assert math.isclose(draft.log_score, expected, rel_tol=1e-4)  # float32
