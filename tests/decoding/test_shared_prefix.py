"""Sharing a prefix changes what is computed, not what comes out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from ragkit.decoding.prefix import ModelPrefix
from ragkit.decoding.shared_prefix import PrefixReader, SharedPrefix, SplitPrompt
from ragkit.errors import ConfigError
from ragkit.models import Llama3Config, Llama3ForCausalLM
from tests.decoding.tiny import tiny_llama

SIZES = {
    "vocab_size": 293,
    "hidden_size": 24,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 40,
}
FAMILIES = {
    "gpt2": {"n_positions": 64},
    "gpt_neox": {"rotary_pct": 0.5},
    "opt": {"ffn_dim": 40, "word_embed_proj_dim": 24},
    "bloom": {"attn_implementation": "eager"},
    "mistral": {"sliding_window": 4},
    "qwen3_next": {
        "head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 6,
        "num_experts": 0,
    },
}
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}  # sums of float32 in another order
TOKENS = st.integers(0, 292)
DEMONSTRATIONS = [tuple(range(20, 33)), tuple(range(50, 59)), ()]
PROMPTS = st.lists(
    st.builds(
        SplitPrompt,
        st.sampled_from(DEMONSTRATIONS),
        st.lists(TOKENS, min_size=1, max_size=17).map(tuple),
    ),
    min_size=1,
    max_size=5,
)
FIVE = [
    SplitPrompt(DEMONSTRATIONS[0], (3, 1, 4)),
    SplitPrompt(DEMONSTRATIONS[1], (1, 5)),
    SplitPrompt(DEMONSTRATIONS[0], (9, 2, 6, 5, 3)),
    SplitPrompt(DEMONSTRATIONS[1], (5,)),
    SplitPrompt(DEMONSTRATIONS[0], (8, 9, 7, 9)),
]


def read_on(prefix, num_rows):
    """All logits of two rounds of tokens, between which the first of several rows is done."""
    steps = [prefix.read_prompts(), prefix.append(torch.arange(7, 7 + num_rows))]
    kept = torch.arange(min(1, num_rows - 1), num_rows)
    prefix.keep(kept)
    return [*steps, prefix.append(kept + 11)]


def assert_same(model, prompts):
    shared = read_on(SharedPrefix(model, prompts), len(prompts))

    naive = read_on(ModelPrefix(model, [one.tokens for one in prompts]), len(prompts))
    for found, expected in zip(shared, naive, strict=True):
        torch.testing.assert_close(found, expected, **TOLERANCE)


def tokens_read(model, run):
    """How many tokens the model computes, padding included."""
    sizes = []
    handle = model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: sizes.append(inputs[0].numel())
    )
    run()
    handle.remove()
    return sum(sizes)


@settings(max_examples=30)
@given(prompts=PROMPTS)
def test_logits_are_those_of_reading_every_prompt_whole(prompts):
    assert_same(tiny_llama(initializer_range=0.1), prompts)


@pytest.mark.parametrize("family", FAMILIES)
def test_any_causal_model_can_share(family):
    config = AutoConfig.for_model(family, **{**SIZES, **FAMILIES[family]})
    torch.manual_seed(2)

    assert_same(AutoModelForCausalLM.from_config(config).eval(), FIVE)


def test_our_own_model_can_share():
    torch.manual_seed(2)

    assert_same(Llama3ForCausalLM(Llama3Config(**SIZES)).eval(), FIVE)


def test_demonstrations_are_computed_once_for_all_prompts():
    model = tiny_llama()
    demonstrations = tuple(range(50))
    prompts = [SplitPrompt(demonstrations, (7, 8, number)) for number in range(10)]

    num_shared = tokens_read(model, SharedPrefix(model, prompts).read_prompts)

    assert num_shared == 50 + 10 * 3


def test_a_reader_keeps_the_prefix_for_the_next_batch():
    model = tiny_llama()
    reader = PrefixReader(model)
    first, second = (
        [SplitPrompt(tuple(range(50)), (number, 8)) for number in numbers]
        for numbers in (range(4), range(4, 11))
    )
    SharedPrefix(model, first, reader=reader).read_prompts()
    prefix = SharedPrefix(model, second, reader=reader)
    found = []

    num_read = tokens_read(model, lambda: found.append(prefix.read_prompts()))

    assert num_read == 7 * 2
    expected = ModelPrefix(model, [one.tokens for one in second]).read_prompts()
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-4)  # logits of about 30


def test_a_prompt_without_a_token_of_its_own_is_refused():
    with pytest.raises(ConfigError, match="leave the last token of the prefix to the suffix"):
        SplitPrompt((1, 2), ())
