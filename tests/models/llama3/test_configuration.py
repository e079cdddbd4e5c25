import pytest
from transformers import AutoConfig, LlamaConfig

from ragkit.errors import ConfigError
from ragkit.models import Llama3Config

LLAMA31 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def without(mapping, key):
    return {name: value for name, value in mapping.items() if name != key}


def test_fields_and_defaults_are_those_of_transformers():
    ours, theirs = Llama3Config().to_dict(), LlamaConfig().to_dict()

    assert without(ours, "model_type") == without(theirs, "model_type")
    assert ours["model_type"] == "ragkit_llama3"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 0}, "hidden_size must be at least 1, got 0"),
        ({"vocab_size": -3}, "vocab_size must be at least 1"),
        ({"num_key_value_heads": 0}, "num_key_value_heads must be at least 1"),
        ({"hidden_size": "wide"}, "'hidden_size' expected int"),
        ({"hidden_size": 30, "num_attention_heads": 4}, "num_attention_heads must divide"),
        ({"num_attention_heads": 32, "num_key_value_heads": 5}, "num_key_value_heads must divide"),
        ({"head_dim": 7}, "head_dim must be even"),
        ({"hidden_size": 30, "num_attention_heads": 6}, "head_dim must be even.*got 5"),
        ({"rms_norm_eps": 0.0}, "rms_norm_eps must be positive"),
        ({"hidden_act": "gelu"}, "hidden_act must be 'silu'"),
        ({"vocab_size": 10, "pad_token_id": 10}, "pad_token_id must be below vocab_size 10"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "rope_type must be one of default"),
        ({"rope_parameters": without(LLAMA31, "factor")}, "llama3 needs factor: add"),
        ({"rope_parameters": {**LLAMA31, "factr": 8.0}}, "takes no 'factr'.*write factor"),
        ({"rope_parameters": {**LLAMA31, "factor": 0.5}}, "factor must be a number of at least 1"),
        ({"rope_parameters": {**LLAMA31, "factor": "8"}}, "factor must be a number"),
        ({"rope_parameters": {**LLAMA31, "low_freq_factor": 4.0}}, "must exceed low_freq_factor"),
        (
            {"rope_parameters": {**LLAMA31, "low_freq_factor": 0}},
            "low_freq_factor must be a number",
        ),
        ({"rope_parameters": {**LLAMA31, "high_freq_factor": "4"}}, "high_freq_factor must be a"),
        ({"rope_parameters": {**LLAMA31, "factor": True}}, "factor must be a number of at least 1"),
        ({"rope_parameters": {"rope_type": ["llama3"]}}, "rope_type must be one of default"),
        ({"attention_dropout": 2.0}, r"attention_dropout must lie in \[0, 1\)"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor must be 1"),
        ({"rope_theta": -1.0}, "rope_theta must be a number of at least 1"),
        ({"rope_scaling": {"type": "linear"}}, "linear needs factor"),
    ],
)
def test_a_mistake_is_named_with_its_mend(fields, message):
    with pytest.raises(ConfigError, match=message):
        Llama3Config(**fields)


def test_a_misspelt_field_is_refused_with_close_names():
    with pytest.raises(ConfigError, match="no field 'num_layers': did you mean num_hidden_layers"):
        Llama3Config.from_fields({"hidden_size": 24, "num_layers": 3})


def test_a_field_like_no_other_is_to_be_left_out():
    with pytest.raises(ConfigError, match="no field 'zzz': leave it out"):
        Llama3Config.from_fields({"zzz": 3})


def test_fields_of_a_recipe_may_name_rope_theta():
    config = Llama3Config.from_fields(
        {"hidden_size": 24, "num_attention_heads": 6, "rope_theta": 500.0}
    )

    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 500.0}
    assert (config.head_dim, config.num_key_value_heads) == (4, 6)


def test_the_old_form_of_rope_parameters_is_read():
    config = Llama3Config(rope_scaling=LLAMA31, rope_theta=500000.0)

    assert config.rope_parameters == {**LLAMA31, "rope_theta": 500000.0}
    assert "rope_theta" not in LLAMA31  # the caller's dictionary is left alone


def test_a_llama_configuration_becomes_ours_and_returns():
    llama = LlamaConfig(
        hidden_size=24, num_attention_heads=6, attention_bias=True, rope_parameters=LLAMA31.copy()
    )

    config = Llama3Config.from_llama(llama)
    again = config.to_llama()

    assert without(config.to_dict(), "model_type") == without(llama.to_dict(), "model_type")
    assert type(again) is LlamaConfig
    assert again.to_dict() == llama.to_dict()


def test_a_saved_configuration_is_read_by_the_auto_class(tmp_path):
    config = Llama3Config(hidden_size=24, num_attention_heads=6, rope_parameters=LLAMA31)

    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)

    assert type(again) is Llama3Config
    assert again.to_diff_dict() == config.to_diff_dict()


def test_llama_stays_with_transformers():
    assert type(AutoConfig.for_model("llama")) is LlamaConfig
