import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from ragkit.models.interface import forward_parameters, max_context_length
from tests.models.checkpoints import tiny_llama

# GPT-2 calls its limit n_positions; BLOOM has none and takes no positions.
GPT2 = {"n_embd": 24, "n_layer": 2, "n_head": 6, "vocab_size": 31, "n_positions": 17}
BLOOM = {"hidden_size": 24, "n_layer": 2, "n_head": 6, "vocab_size": 31}


def make(kind, sizes):
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes))


def adapted(model):
    return get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))


def test_adapters_do_not_hide_what_a_model_takes(make_twins):
    theirs, ours = make_twins()

    for model in (theirs, ours):
        plain = forward_parameters(model)
        assert {"input_ids", "past_key_values", "logits_to_keep"} <= plain
        assert forward_parameters(adapted(model)) == plain


def test_what_a_model_does_not_take_is_not_there():
    model = make("bloom", BLOOM)

    assert "past_key_values" in forward_parameters(model)
    assert "position_ids" not in forward_parameters(model)


@pytest.mark.parametrize(
    ("kind", "sizes", "expected"), [("gpt2", GPT2, 17), ("bloom", BLOOM, None)]
)
def test_the_longest_context_is_read_from_the_configuration(kind, sizes, expected):
    assert max_context_length(make(kind, sizes)) == expected


def test_adapters_do_not_change_the_longest_context():
    model = tiny_llama()
    longest = model.config.max_position_embeddings

    assert max_context_length(adapted(model)) == longest
