"""A mixture of prompts against the enumeration of all texts, and against plain decoding."""

from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.decoding import GenerationOptions, generate_tokens
from ragkit.decoding.batching import Generator
from ragkit.decoding.mixture import MixturePrefix, mixture_request, open_mixtures
from ragkit.decoding.prefix import ModelPrefix
from ragkit.decoding.shared_prefix import SplitPrompt
from ragkit.errors import ConfigError
from tests.decoding.tiny import tiny_llama

VOCAB, LENGTH = 5, 4
PROMPTS = [[1, 2, 3], [4, 1], [0, 0, 2, 4, 3]]
WEIGHTS = [0.2, 0.7, 0.1]
KINDS = ("token", "token-bayes")


def toy_model():
    """So small a vocabulary that all texts can be listed."""
    return tiny_llama(vocab_size=VOCAB, initializer_range=0.3)


def sequence_probs(model, prompts, texts):
    """The probability of each text after each prompt, one forward pass per pair, in float64."""
    table = np.zeros((len(prompts), len(texts)))
    for row, prompt in enumerate(prompts):
        for column, text in enumerate(texts):
            with torch.inference_mode():
                logits = model(torch.tensor([[*prompt, *text]])).logits[0].double()
            steps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
            table[row, column] = steps[range(len(text)), list(text)].sum().exp()
    return table


def mixture(model, prompts, weights, kind):
    inner = ModelPrefix(model, [prompt for group in prompts for prompt in group])
    return MixturePrefix(inner, [np.log(group).tolist() for group in weights], kind=kind)


def generations(model, requests, kind, **options):
    generator = Generator(
        model,
        None,
        options=GenerationOptions(max_new_tokens=7, **options),
        open_prefix=partial(open_mixtures, model=model, kind=kind),
    )
    return list(generator.run(requests, batch_size=3))


def request(prompts, weights):
    parts = [SplitPrompt(tuple(prompt[:-1]), tuple(prompt[-1:])) for prompt in prompts]
    return mixture_request(parts, np.log(weights).tolist())


def test_token_bayes_is_the_law_of_the_mixture_of_all_texts():
    model = toy_model()
    texts = list(product(range(VOCAB), repeat=LENGTH))
    whole = np.array(WEIGHTS) @ sequence_probs(model, PROMPTS, texts)
    mass = {}
    for text, share in zip(texts, whole, strict=True):
        for size in range(LENGTH + 1):
            mass[text[:size]] = mass.get(text[:size], 0) + share

    prefix = mixture(model, [PROMPTS], [WEIGHTS], "token-bayes")
    laws, text = [prefix.read_prompts()], (3, 0, 4)
    laws += [prefix.append(torch.tensor([token])) for token in text]

    for size, law in enumerate(laws):
        begun = text[:size]
        expected = [mass[(*begun, token)] / mass[begun] for token in range(VOCAB)]
        # float32 logits on one side, float64 sums of 625 texts on the other
        np.testing.assert_allclose(law[0].softmax(-1).numpy(), expected, rtol=1e-4)


def test_token_keeps_the_weights_whatever_was_written():
    model, text = toy_model(), [3, 0]
    prefix = mixture(model, [PROMPTS], [WEIGHTS], "token")
    prefix.read_prompts()

    laws = [prefix.append(torch.tensor([token])) for token in text]

    for size, law in enumerate(laws, start=1):
        expected = 0
        for weight, prompt in zip(WEIGHTS, PROMPTS, strict=True):
            with torch.inference_mode():
                logits = model(torch.tensor([[*prompt, *text[:size]]])).logits[0, -1]
            expected = expected + weight * logits.double().softmax(-1)
        torch.testing.assert_close(
            law[0].double().softmax(-1), expected, rtol=1e-4, atol=1e-6
        )  # float32


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8)
@given(
    prompts=st.lists(st.lists(st.integers(0, 292), min_size=1, max_size=9), min_size=1, max_size=4)
)
def test_one_prompt_alone_is_plain_decoding(kind, prompts):
    model = tiny_llama()
    draw = {"temperature": 0.9, "repetition_penalty": 1.2, "seed": 5}

    for options in ({}, draw):
        found = generations(model, [request([one], [1.0]) for one in prompts], kind, **options)

        chosen = GenerationOptions(max_new_tokens=7, **options)
        plain = [generate_tokens(model, [prompt], options=chosen)[0] for prompt in prompts]
        assert [one.tokens for one in found] == [one.tokens for one in plain]


def test_several_equal_prompts_are_plain_decoding_with_a_penalty():
    model, prompt = tiny_llama(), [7, 8, 9]
    [found] = generations(
        model, [request([prompt] * 3, [0.5, 0.3, 0.2])], "token-bayes", repetition_penalty=1.7
    )

    [plain] = generate_tokens(
        model, [prompt], options=GenerationOptions(max_new_tokens=7, repetition_penalty=1.7)
    )

    assert found.tokens == plain.tokens


@pytest.mark.parametrize("kind", KINDS)
@given(order=st.permutations(range(3)))
@settings(max_examples=6)
def test_the_order_of_the_prompts_does_not_matter(kind, order):
    model = tiny_llama()
    prompts, weights = ([part[place] for place in order] for part in (PROMPTS, WEIGHTS))

    [found] = generations(model, [request(prompts, weights)], kind, temperature=1.0, seed=3)

    [expected] = generations(model, [request(PROMPTS, WEIGHTS)], kind, temperature=1.0, seed=3)
    assert found.tokens == expected.tokens
    np.testing.assert_allclose(found.log_probs, expected.log_probs, atol=1e-4)  # float32 sums


@pytest.mark.parametrize("kind", KINDS)
def test_texts_with_fewer_prompts_run_beside_others(kind):
    model = tiny_llama(eos_token_id=9)
    requests = [
        request(PROMPTS, WEIGHTS),
        request([[7, 8]], [1.0]),
        request([[5, 5, 5], [200, 201]], [0.5, 0.5]),
    ]

    together = generations(model, requests, kind)

    alone = [generations(model, [one], kind)[0] for one in requests]
    assert together == alone


def test_rows_that_leave_take_their_prompts_with_them():
    model = toy_model()
    texts, weights = [PROMPTS, [[2, 2]], [[1], [3, 4]]], [WEIGHTS, [1.0], [0.6, 0.4]]
    prefix = mixture(model, texts, weights, "token-bayes")
    prefix.read_prompts()
    prefix.append(torch.tensor([1, 2, 3]))
    prefix.keep(torch.tensor([0, 2]))

    found = prefix.append(torch.tensor([4, 0]))

    for row, (text, begun) in enumerate([(0, [1, 4]), (2, [3, 0])]):
        alone = mixture(model, [texts[text]], [weights[text]], "token-bayes")
        alone.read_prompts()
        for token in begun:
            expected = alone.append(torch.tensor([token]))
        torch.testing.assert_close(found[row], expected[0], rtol=1e-4, atol=1e-5)  # float32


def test_the_log_probabilities_of_token_bayes_add_up_to_that_of_the_text():
    model = toy_model()
    [found] = generations(model, [request(PROMPTS, WEIGHTS)], "token-bayes")

    [mass] = np.array(WEIGHTS) @ sequence_probs(model, PROMPTS, [found.tokens])

    np.testing.assert_allclose(sum(found.log_probs), np.log(mass), rtol=1e-4)  # float32 logits


def test_sums_are_taken_in_float32_whatever_the_model_computes_in():
    model = toy_model().bfloat16()

    law = mixture(model, [PROMPTS], [WEIGHTS], "token").read_prompts()[0].double().softmax(-1)

    each = ModelPrefix(model, PROMPTS).read_prompts().double().softmax(-1)
    expected = torch.tensor(WEIGHTS).double() @ each
    torch.testing.assert_close(law, expected, rtol=1e-5, atol=0)  # bfloat16 has 8e-3


def test_prompts_far_apart_in_weight_do_not_overflow():
    inner = ModelPrefix(toy_model(), PROMPTS)

    law = MixturePrefix(inner, [[0.0, -900.0, -1e30]], kind="token-bayes").read_prompts()

    expected = ModelPrefix(toy_model(), PROMPTS).read_prompts()[:1]
    torch.testing.assert_close(law, expected, rtol=1e-6, atol=1e-6)  # shifted there and back


def test_a_text_without_prompts_is_refused():
    with pytest.raises(ConfigError, match="at least one prompt for each text"):
        MixturePrefix(ModelPrefix(toy_model(), [[1]]), [[0.0], []], kind="token")
