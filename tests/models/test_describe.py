import json
import subprocess
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, BertConfig, BertForMaskedLM

from ragkit.errors import CheckpointError, ConfigError, HubError
from ragkit.models.describe import describe
from ragkit.models.llama3.presets import PRESETS
from tests.models.checkpoints import tiny_llama, tiny_tokenizer, write_gguf, write_llama

SIZES = {
    "8b": (8_030_261_248, 6_979_588_096, 131_072),
    "70b": (70_553_706_496, 68_452_360_192, 327_680),
    "405b": (405_853_388_800, 401_650_696_192, 516_096),
    "1b": (1_235_814_400, 973_146_112, 32_768),
    "3b": (3_212_749_824, 2_818_747_392, 114_688),
}
"""Parameters, those outside the embeddings, and bytes of keys and values per token."""


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_published_sizes(name):
    found = describe(name)

    size = (found.parameters, found.non_embedding_parameters, found.kv_bytes_per_token)
    assert size == SIZES[name.rpartition("-")[2]]
    assert found.optimizer_bytes == 12 * found.parameters


@pytest.mark.slow
def test_the_largest_preset_does_not_need_its_memory():
    code = (
        "import resource; from ragkit.models.describe import describe; "
        "describe('llama3.1-405b'); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)

    assert int(ran.stdout) < 2_000_000  # kilobytes


@pytest.mark.parametrize("tied", [False, True])
def test_a_checkpoint_is_counted_as_it_loads(tmp_path, tied):
    folder = write_llama(tmp_path, tie_word_embeddings=tied)
    model = AutoModelForCausalLM.from_pretrained(folder)

    found = describe(str(folder))

    assert found.parameters == model.num_parameters()
    body = found.parameters - (1 if tied else 2) * 31 * 24
    assert found.non_embedding_parameters == body
    assert (found.model_type, found.tie_word_embeddings) == ("llama", tied)
    assert (found.hidden_size, found.num_hidden_layers, found.head_dim) == (24, 3, 4)


def test_the_cache_grows_by_what_is_described(tmp_path):
    folder = write_llama(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)

    cache = model(torch.tensor([[3, 1, 4, 1, 5]]), use_cache=True).past_key_values

    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert held == 5 * describe(str(folder)).kv_bytes_per_token


def test_positions_of_gpt2_are_embeddings_too(tmp_path):
    config = AutoConfig.for_model("gpt2", n_embd=24, n_layer=2, n_head=6, vocab_size=31)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path)

    found = describe(str(tmp_path))

    assert found.parameters == model.num_parameters()
    assert found.non_embedding_parameters == found.parameters - (31 + 1024) * 24


def test_a_gguf_file_is_described_without_being_converted(tmp_path, monkeypatch):
    monkeypatch.setenv("RAGKIT_CACHE", str(tmp_path / "cache"))
    model = tiny_llama(vocab_size=30)
    path = write_gguf(tmp_path / "tiny.gguf", model)

    assert describe(str(path)).parameters == model.num_parameters()
    assert not (tmp_path / "cache").exists()


def test_json_starts_with_its_schema_and_is_json():
    found = describe("llama3.2-1b").as_dict()

    assert list(found)[:2] == ["schema", "name"]
    assert found["schema"] == "ragkit.models_describe/1"
    assert json.loads(json.dumps(found)) == found


def test_a_longer_context_costs_more_attention():
    short, long = (describe("llama3.1-8b", context_length=n) for n in (8192, 131_072))

    # Scores and values: 4 FLOPs per head, its width and key read, in each layer.
    added = 4 * 32 * 128 * 32 * (131_072 - 8192) // 2
    assert long.flops_per_token - short.flops_per_token == added
    assert describe("llama3.1-8b").context_length == 8192


def test_a_short_model_is_described_at_its_own_length(tmp_path):
    assert describe(str(write_llama(tmp_path))).context_length == 64


@pytest.mark.parametrize("context_length", [0, -1, 8193])
def test_a_context_beyond_the_model_is_refused(context_length):
    hint = r"context_length must lie in 1..8192 \(max_position_embeddings .*got .*: lower it"
    with pytest.raises(ConfigError, match=hint):
        describe("llama3-8b", context_length=context_length)


def test_a_misspelt_preset_gets_the_close_ones():
    with pytest.raises(ConfigError, match=r"'llama3.1-8': did you mean llama3.1-8b"):
        describe("llama3.1-8")


def test_a_name_that_is_nothing_near_is_looked_for_on_the_hub():
    with pytest.raises(HubError, match="cannot get 'owner/absent' from the hub"):
        describe("owner/absent")


def test_an_encoder_is_refused(tmp_path):
    config = BertConfig(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=6, intermediate_size=40
    )
    BertForMaskedLM(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)

    with pytest.raises(CheckpointError, match="of model_type 'bert', expected a causal"):
        describe(str(tmp_path))


def test_a_mixture_of_experts_is_not_counted_as_dense(tmp_path):
    AutoConfig.for_model("mixtral").save_pretrained(tmp_path)

    with pytest.raises(ConfigError, match="cannot count the FLOPs of model_type 'mixtral'"):
        describe(str(tmp_path))
