import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    LlamaModel,
    T5Config,
    T5ForConditionalGeneration,
)

from ragkit.errors import CheckpointError, ConfigError
from ragkit.models import Llama3ForCausalLM
from ragkit.models.loading import choose_device, load_model
from tests.models.checkpoints import SIZES, WORDS, tiny_llama, tiny_tokenizer, write_llama

TOKENS = torch.tensor([[5, 3, 9, 30, 2], [1, 1, 4, 0, 8]])
ROPE_SCALING = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


def logits(model):
    with torch.no_grad():
        return model(TOKENS).logits


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.fixture
def folder(tmp_path):
    return write_llama(tmp_path / "model")


@pytest.mark.parametrize(
    "sizes",
    [{}, {"tie_word_embeddings": True}, {"rope_parameters": ROPE_SCALING}, {"head_dim": 8}],
    ids=["plain", "tied", "rope-scaling", "wide-heads"],
)
def test_a_llama_checkpoint_opens_as_either_class_with_equal_logits(tmp_path, sizes):
    folder = write_llama(tmp_path, **sizes)

    ours, _ = load_model(folder, device="cpu")
    theirs, _ = load_model(folder, device="cpu", implementation="transformers")

    assert (type(ours), type(theirs)) == (Llama3ForCausalLM, LlamaForCausalLM)
    # The same products in fp32; another order of the sums may move the last bits.
    torch.testing.assert_close(logits(ours), logits(theirs), rtol=1e-5, atol=1e-6)


def test_what_we_save_opens_as_either_class(folder, tmp_path):
    model, tokenizer = load_model(str(folder), device="cpu")
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")

    ours, _ = load_model(tmp_path / "saved", device="cpu")
    theirs, _ = load_model(tmp_path / "saved", device="cpu", implementation="transformers")

    assert (type(ours), type(theirs)) == (Llama3ForCausalLM, LlamaForCausalLM)
    assert theirs.config.model_type == "llama"
    torch.testing.assert_close(logits(ours), logits(model), rtol=0, atol=0)
    torch.testing.assert_close(logits(theirs), logits(model), rtol=1e-5, atol=1e-6)


def test_other_causal_models_open_as_transformers_has_them(tmp_path):
    config = GPT2Config(n_embd=24, n_layer=2, n_head=6, vocab_size=31, n_positions=16)
    model = GPT2LMHeadModel(config).eval()
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)

    found, tokenizer = load_model(tmp_path, device="cpu")

    assert isinstance(found, GPT2LMHeadModel)
    assert tokenizer("w1 w2").input_ids == [4, 5]
    torch.testing.assert_close(logits(found), logits(model), rtol=0, atol=0)


def test_shards_are_one_model(tmp_path):
    folder = write_llama(tmp_path, shard="9KB")

    found, _ = load_model(folder, device="cpu")

    assert len(list(folder.glob("*.safetensors"))) > 2
    torch.testing.assert_close(logits(found), logits(tiny_llama()), rtol=1e-5, atol=1e-6)


def test_frequencies_that_old_checkpoints_store_are_legal(folder):
    name = "model.layers.1.self_attn.rotary_emb.inv_freq"
    edit_weights(folder, lambda tensors: tensors.update({name: torch.ones(2)}))

    assert isinstance(load_model(folder, device="cpu")[0], Llama3ForCausalLM)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (None, torch.float32),
        ("auto", torch.bfloat16),
        ("fp16", torch.float16),
        ("bfloat16", torch.bfloat16),
        (torch.float32, torch.float32),
    ],
)
def test_weights_take_the_dtype_that_was_asked_for(tmp_path, dtype, expected):
    tiny_llama().bfloat16().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)

    model, _ = load_model(tmp_path, device="cpu", dtype=dtype)

    assert {parameter.dtype for parameter in model.parameters()} == {expected}


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"dtype": "int4"}, "dtype must be auto or one of fp32, .* got 'int4'"),
        ({"device": "abacus"}, "no device 'abacus': give cpu"),
        ({"device": "cuda:77"}, "GPUs found.: give auto or cpu"),
        ({"implementation": "mine"}, "implementation must be one of .*ragkit.* got 'mine'"),
        ({"revision": "main"}, "leave revision='main' out"),
    ],
)
def test_wrong_arguments_are_named(folder, arguments, hint):
    with pytest.raises(ConfigError, match=hint):
        load_model(folder, **arguments)


def test_a_missing_path_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match=r"no model at .*absent.*: give a folder"):
        load_model(tmp_path / "absent")


def test_the_reserved_token_of_llama_3_pads(tmp_path):
    tiny_llama().save_pretrained(tmp_path)
    tiny_tokenizer([*WORDS, "<|finetune_right_pad_id|>"]).save_pretrained(tmp_path)

    _, tokenizer = load_model(tmp_path, device="cpu")

    assert tokenizer.pad_token_id == len(WORDS)


def test_the_end_token_pads_where_none_is_reserved(folder):
    _, tokenizer = load_model(folder, device="cpu")

    assert tokenizer.pad_token_id == SIZES["eos_token_id"]
    assert tokenizer(["w1", "w1 w2"], padding=True).attention_mask == [[1, 0], [1, 1]]


def test_a_padding_token_of_the_tokenizer_stays(tmp_path):
    tiny_llama().save_pretrained(tmp_path)
    tiny_tokenizer(pad_token="w5").save_pretrained(tmp_path)

    _, tokenizer = load_model(tmp_path, device="cpu")

    assert tokenizer.pad_token == "w5"


def test_a_missing_tensor_is_named(folder):
    edit_weights(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))

    hint = r"lacks 1 tensors .*such as model.layers.1.mlp.up_proj.weight: fetch the model again"
    with pytest.raises(CheckpointError, match=hint):
        load_model(folder, device="cpu")


def test_an_extra_tensor_is_named(folder):
    name = "model.layers.1.self_attn.q_norm.weight"
    edit_weights(folder, lambda tensors: tensors.update({name: torch.ones(4)}))

    with pytest.raises(CheckpointError, match=rf"adds 1 tensors .*such as {name}: .*mend config"):
        load_model(folder, device="cpu")


def test_an_untied_head_must_be_there(tmp_path):
    folder = write_llama(tmp_path, tie_word_embeddings=True)
    edit_config(folder, tie_word_embeddings=False)

    with pytest.raises(CheckpointError, match=r"such as lm_head.weight: set tie_word_embeddings"):
        load_model(folder, device="cpu")


def test_a_tied_head_must_be_the_embedding(folder):
    edit_config(folder, tie_word_embeddings=True)

    with pytest.raises(CheckpointError, match="says tie_word_embeddings: set it to false"):
        load_model(folder, device="cpu")


@pytest.mark.parametrize("implementation", ["ragkit", "transformers"])
@pytest.mark.parametrize(
    ("field", "value", "mend"),
    [
        ("num_hidden_layers", 2, "adds .*set num_hidden_layers to 3"),
        ("num_hidden_layers", 5, "lacks .*set num_hidden_layers to 3"),
        ("vocab_size", 32, r"has shape \[31, 24\].* asks for \[32, 24\].*mend vocab_size"),
        ("intermediate_size", 44, "mend intermediate_size of config.json"),
        ("num_key_value_heads", 3, "mend num_key_value_heads or head_dim"),
        ("head_dim", 8, "or head_dim of config.json"),
    ],
)
def test_a_size_that_the_weights_contradict_is_named(folder, field, value, mend, implementation):
    edit_config(folder, **{field: value})

    with pytest.raises(CheckpointError, match=mend):
        load_model(folder, device="cpu", implementation=implementation)


def test_sizes_that_do_not_divide_are_named(folder):
    edit_config(folder, num_key_value_heads=4)

    with pytest.raises(ConfigError, match="num_key_value_heads"):
        load_model(folder, device="cpu")


def test_a_value_of_the_wrong_type_is_named(folder):
    edit_config(folder, hidden_size="wide")

    with pytest.raises(ConfigError, match=r"'hidden_size' expected int.*mend that field"):
        load_model(folder, device="cpu")


def save_bert(folder):
    config = BertConfig(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=6, intermediate_size=40
    )
    BertForMaskedLM(config).save_pretrained(folder)


def save_t5(folder):
    config = T5Config(d_model=24, d_ff=40, num_layers=1, num_heads=6, d_kv=4, vocab_size=31)
    T5ForConditionalGeneration(config).save_pretrained(folder)


def save_headless(folder):
    LlamaModel(tiny_llama().config).save_pretrained(folder)


@pytest.mark.parametrize(
    ("save", "found"),
    [
        (save_bert, "BertForMaskedLM of model_type 'bert'"),
        (save_t5, "T5ForConditionalGeneration of model_type 't5'"),
        (save_headless, "LlamaModel of model_type 'llama'"),
    ],
)
def test_another_architecture_is_refused(tmp_path, save, found):
    save(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)

    with pytest.raises(CheckpointError, match=rf"{found}, expected a causal .*choose another"):
        load_model(tmp_path, device="cpu")


def test_a_kind_that_transformers_does_not_know_is_refused(folder):
    edit_config(folder, model_type="abacus")

    with pytest.raises(ConfigError, match=r"abacus.*choose another model or a newer transformers"):
        load_model(folder, device="cpu")


def test_code_that_comes_with_a_model_never_runs(folder):
    edit_config(folder, model_type="abacus", auto_map={"AutoConfig": "evil.Config"})
    (folder / "evil.py").write_text("raise SystemExit('ran')")

    with pytest.raises(ConfigError, match="code that comes with a model is never run"):
        load_model(folder, device="cpu")


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    with pytest.raises(CheckpointError, match=r"pytorch_model.bin.* run code .*writes safetensors"):
        load_model(folder, device="cpu")


@pytest.mark.parametrize("size", [0, 7, 300, -1])
def test_weights_that_are_cut_short_are_named(folder, size):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])

    with pytest.raises(CheckpointError, match=r"model.safetensors is damaged .*: fetch or save"):
        load_model(folder, device="cpu")


def test_a_missing_shard_is_named(tmp_path):
    folder = write_llama(tmp_path, shard="9KB")
    shards = sorted(folder.glob("*.safetensors"))
    shards[1].unlink()

    hint = rf"lacks 1 of {len(shards)} weight files, such as {shards[1].name}: fetch"
    with pytest.raises(CheckpointError, match=hint):
        load_model(folder, device="cpu")


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": 3}', '{"weight_map": ["a"]}'])
def test_a_damaged_index_of_shards_is_named(tmp_path, text):
    folder = write_llama(tmp_path, shard="9KB")
    (folder / "model.safetensors.index.json").write_text(text)

    with pytest.raises(CheckpointError, match=r"index.json is damaged .*: fetch the model again"):
        load_model(folder, device="cpu")


@pytest.mark.parametrize("text", ["", "[]", "{", '"text"', "\xff"])
def test_a_damaged_config_is_named(folder, text):
    (folder / "config.json").write_text(text, encoding="latin-1")

    with pytest.raises((CheckpointError, ConfigError), match=str(folder)):
        load_model(folder, device="cpu")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("adapter_config.json", "is a PEFT adapter; load its base model"),
        ("weights.Q4_1.gguf", r"give the path of one of its GGUF files: weights.Q4_1.gguf"),
        ("notes.md", "give the folder that `save_pretrained` wrote"),
    ],
)
def test_a_folder_without_a_config_says_what_to_do(tmp_path, name, hint):
    (tmp_path / name).write_text("{}")

    with pytest.raises(CheckpointError, match=hint):
        load_model(tmp_path, device="cpu")


def test_a_missing_tokenizer_says_what_to_do(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()

    with pytest.raises(CheckpointError, match=r"has no tokenizer .*`tokenizer.save_pretrained`"):
        load_model(folder, device="cpu")


def test_a_damaged_tokenizer_is_named(folder):
    (folder / "tokenizer.json").write_text("{}")

    with pytest.raises((CheckpointError, ConfigError), match=str(folder)):
        load_model(folder, device="cpu")


def test_a_tokenizer_with_too_many_words_is_refused(folder):
    tiny_tokenizer([*WORDS, "w26", "w27", "w28"]).save_pretrained(folder)

    with pytest.raises(CheckpointError, match=r"ids up to 31 \('w28'\).* has vocab_size=31: take"):
        load_model(folder, device="cpu")


def test_settings_of_generation_can_be_saved_again(folder):
    # Transformers refuses to save what it only warns about when it is read, once it is changed.
    settings = {"temperature": 0.5, "do_sample": False}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    model, _ = load_model(folder, device="cpu")

    model.save_pretrained(folder.with_name("saved"))

    assert load_file(folder.with_name("saved") / "model.safetensors")


def test_loading_leaves_transformers_logging_alone(folder):
    from transformers.utils import logging

    shutil.copytree(folder, folder.with_name("copy"))
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()

    load_model(folder.with_name("copy"), device="cpu")

    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


@pytest.mark.parametrize("device", ["meta", "mps", "xpu"])
def test_a_device_that_no_model_runs_on_is_refused(device):
    with pytest.raises(ConfigError, match="give cpu, cuda"):
        choose_device(device)
