import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PreTrainedConfig

from ragkit.errors import ConfigError
from ragkit.models.flops import flops_per_token, read_dimensions, training_flops_per_token
from ragkit.nn.flops import causal_attended

BATCH = 3
SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "intermediate_size": 40,
    "vocab_size": 31,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
GROUPED = {"num_key_value_heads": 2}
WIDE_HEADS = {**GROUPED, "head_dim": 8}
MODELS = [
    ("llama", GROUPED),
    ("llama", {**WIDE_HEADS, "tie_word_embeddings": True}),
    ("ragkit_llama3", GROUPED),
    ("mistral", {**WIDE_HEADS, "sliding_window": None}),
    ("qwen2", GROUPED),
    ("qwen3", WIDE_HEADS),
    ("gemma", WIDE_HEADS),
    ("gemma2", WIDE_HEADS),
    ("granite", GROUPED),
    ("olmo", GROUPED),
    ("olmo2", GROUPED),
    ("phi3", GROUPED),
    ("smollm3", GROUPED),
    ("gpt2", {}),
    ("gpt2", {"n_inner": 50}),
    ("gpt_neox", {}),
    ("phi", GROUPED),
    ("starcoder2", GROUPED),
]


def counted(model, tokens, *, backward):
    """FLOPs per token by torch's own counter."""
    with FlopCounterMode(display=False) as counter:
        logits = model(tokens).logits
        if backward:
            logits.sum().backward()
    return counter.get_total_flops() / tokens.numel()


@pytest.mark.parametrize(("kind", "sizes"), MODELS)
@pytest.mark.parametrize("seq_length", [5, 17])
def test_flops_equal_those_of_torchs_counter(kind, sizes, seq_length):
    config = AutoConfig.for_model(kind, **{**SIZES, **sizes})
    # Eager attention multiplies matrices, all of which the counter sees.
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    tokens = torch.zeros(BATCH, seq_length, dtype=torch.long)

    forward = flops_per_token(config, seq_length, mean_attended=seq_length).total
    training = training_flops_per_token(config, seq_length, mean_attended=seq_length)

    assert counted(model, tokens, backward=False) == forward
    assert counted(model, tokens, backward=True) == training == 3 * forward


def test_each_component_has_its_formula():
    config = LlamaConfig(**{**SIZES, **WIDE_HEADS})

    found = flops_per_token(config, 9)

    assert found.attention_projections == 2 * 2 * 24 * (2 * 6 + 2 * 2) * 8
    assert found.scores_and_values == 2 * 4 * 6 * 8 * (9 + 1) / 2
    assert found.mlp == 2 * 6 * 24 * 40
    assert found.head == 2 * 24 * 31
    assert found.embeddings == 0
    assert found.training.mlp == 3 * found.mlp


def test_layers_with_a_window_read_fewer_keys():
    kinds = ["sliding_attention", "full_attention"]
    config = AutoConfig.for_model(
        "gemma2", **{**SIZES, **WIDE_HEADS}, sliding_window=4, layer_types=kinds
    )

    found = flops_per_token(config, 16).scores_and_values

    assert read_dimensions(config).windows == (4, None)
    keys = causal_attended([16], window=4) + causal_attended([16])
    assert found == 4 * 6 * 8 * keys


def test_documents_that_do_not_see_each_other_cost_less():
    config = LlamaConfig(**SIZES)

    masked = training_flops_per_token(config, 12, mean_attended=causal_attended([7, 5]))

    assert masked < training_flops_per_token(config, 12)


def test_a_model_of_unknown_shape_is_refused():
    with pytest.raises(ConfigError, match="model_type 'mixtral': known are llama"):
        flops_per_token(AutoConfig.for_model("mixtral"), 5)


def test_a_missing_size_is_named():
    config = PreTrainedConfig(hidden_size=24, num_attention_heads=6)
    config.model_type = "llama"

    with pytest.raises(ConfigError, match="needs intermediate_size, found None: set it"):
        flops_per_token(config, 5)


def test_an_empty_sequence_has_no_tokens():
    with pytest.raises(ConfigError, match="seq_length must be at least 1, got 0"):
        flops_per_token(LlamaConfig(**SIZES), 0)
