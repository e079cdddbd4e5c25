import pytest
import torch
from peft import PeftModel
from transformers import GPT2Config, GPT2LMHeadModel

from ragkit import load_model
from ragkit.errors import CheckpointError, ConfigError
from ragkit.finetune.radit.lora import LoraOptions, add_adapters, publish_merged
from tests.decoding.tiny import tiny_llama, tiny_tokenizer

PROJECTIONS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
IDS = torch.tensor([[3, 14, 15, 92, 65], [35, 89, 79, 3, 2], [38, 46, 26, 43, 38]])


def layers_with_adapters(model):
    return {name.split(".lora_")[0].rsplit(".", 1)[1] for name in trainable_names(model)}


def trainable_names(model):
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def write_base(folder, *, dtype=torch.float32, **sizes):
    """A checkpoint of a tiny Llama with its tokenizer."""
    tiny_llama(**sizes).to(dtype).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def write_adapter(folder, base, *, r=3):
    """An adapter of random weights, none of which is 0."""
    adapted = add_adapters(load_model(base)[0], LoraOptions(r=r), seed=0)
    for name in trainable_names(adapted):
        torch.nn.init.normal_(adapted.get_parameter(name), std=0.2)
    adapted.save_pretrained(folder)
    return adapted.eval()


def logits_of(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_all_linear_layers_but_the_head_get_adapters_in_float32():
    adapted = add_adapters(tiny_llama().to(torch.bfloat16), LoraOptions(r=3), seed=0)

    assert layers_with_adapters(adapted) == PROJECTIONS
    types = {adapted.get_parameter(name).dtype for name in trainable_names(adapted)}
    assert types == {torch.float32}


def test_adapters_change_nothing_before_they_are_trained():
    expected = logits_of(tiny_llama())

    adapted = add_adapters(tiny_llama(), LoraOptions(target_modules=("k_proj",)), seed=0)

    assert layers_with_adapters(adapted) == {"k_proj"}
    torch.testing.assert_close(logits_of(adapted), expected, rtol=0, atol=0)


def test_conv1d_layers_count_as_linear_ones():
    sizes = GPT2Config(vocab_size=37, n_positions=16, n_embd=24, n_layer=2, n_head=6)

    adapted = add_adapters(GPT2LMHeadModel(sizes), LoraOptions(r=3), seed=0)

    assert layers_with_adapters(adapted) == {"c_attn", "c_proj", "c_fc"}


def test_the_seed_alone_decides_the_weights():
    models = [tiny_llama() for _ in range(3)]
    torch.rand(7)  # whatever was drawn before
    state = torch.random.get_rng_state()

    made = [
        add_adapters(model, LoraOptions(r=3), seed=seed)
        for model, seed in zip(models, (1, 1, 2), strict=True)
    ]

    names = [name for name in trainable_names(made[0]) if "lora_A" in name]

    same, other = (
        [torch.equal(made[0].get_parameter(name), one.get_parameter(name)) for name in names]
        for one in made[1:]
    )
    assert all(same)
    assert not any(other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_unknown_layers_are_refused():
    with pytest.raises(ConfigError, match="name linear layers of it"):
        add_adapters(tiny_llama(), LoraOptions(target_modules=("c_attn",)), seed=0)


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"r": 0}, "at least 1, got 0 and 32"),
        ({"lora_alpha": 0}, "at least 1, got 16 and 0"),
        ({"lora_dropout": 1.0}, r"in \[0, 1\), got 1.0"),
        ({"target_modules": ()}, "leave it out for all-linear"),
    ],
)
def test_options_out_of_range_are_refused(changes, hint):
    with pytest.raises(ConfigError, match=hint):
        LoraOptions(**changes)


def test_the_merged_model_equals_the_adapted_one(tmp_path):
    base = write_base(tmp_path / "base")
    expected = logits_of(write_adapter(tmp_path / "adapter", base))

    publish_merged(base, tmp_path / "adapter", tmp_path / "merged", tokenizer=load_model(base)[1])

    merged, tokenizer = load_model(tmp_path / "merged")
    assert not isinstance(merged, PeftModel)
    assert type(merged) is type(load_model(base)[0])
    assert tokenizer("wing").input_ids == load_model(base)[1]("wing").input_ids
    # One product of summed weights in place of a sum of products.
    torch.testing.assert_close(logits_of(merged), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(expected, logits_of(load_model(base)[0]), atol=0.1)


def test_the_merged_model_has_the_number_format_of_its_base(tmp_path):
    base = write_base(tmp_path / "base", dtype=torch.bfloat16)
    write_adapter(tmp_path / "adapter", base)

    publish_merged(base, tmp_path / "adapter", tmp_path / "merged", tokenizer=load_model(base)[1])

    assert load_model(tmp_path / "merged", dtype="auto")[0].dtype == torch.bfloat16


def test_an_adapter_of_another_model_is_refused(tmp_path):
    base = write_base(tmp_path / "base", intermediate_size=56)
    other = write_base(tmp_path / "other")
    write_adapter(tmp_path / "adapter", other)

    with pytest.raises(CheckpointError, match="tune it again from this model"):
        publish_merged(
            base, tmp_path / "adapter", tmp_path / "merged", tokenizer=load_model(base)[1]
        )
    assert not (tmp_path / "merged").exists()
