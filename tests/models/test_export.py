import json

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
)

from ragkit.errors import CheckpointError, ConfigError, StorageError
from ragkit.models.export import export_model
from ragkit.models.loading import load_model
from tests.limits import limited
from tests.models.checkpoints import tiny_llama, tiny_tokenizer, write_gguf, write_llama

TOKENS = torch.tensor([[5, 3, 9, 28, 2], [1, 1, 4, 0, 8]])


def logits(model):
    with torch.no_grad():
        return model(TOKENS).logits


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def ours(tmp_path):
    """A folder as training leaves it: of our type, with settings of `generate`."""
    model, tokenizer = load_model(write_llama(tmp_path / "llama"), device="cpu")
    model.generation_config.eos_token_id = [1, 7]
    model.save_pretrained(tmp_path / "ours")
    tokenizer.save_pretrained(tmp_path / "ours")
    return tmp_path / "ours"


@pytest.mark.parametrize("tied", [False, True])
def test_plain_transformers_opens_it_with_equal_logits(tmp_path, tied):
    model, tokenizer = load_model(
        write_llama(tmp_path / "llama", tie_word_embeddings=tied), device="cpu"
    )
    model.save_pretrained(tmp_path / "ours")
    tokenizer.save_pretrained(tmp_path / "ours")

    found = AutoModelForCausalLM.from_pretrained(
        export_model(tmp_path / "ours", tmp_path / "theirs")
    )

    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("llama", ["LlamaForCausalLM"])
    assert type(found) is LlamaForCausalLM
    # The same products in fp32; another order of the sums may move the last bits.
    torch.testing.assert_close(logits(found), logits(model), rtol=1e-5, atol=1e-6)


def test_nothing_in_it_names_us(ours, tmp_path):
    out = export_model(ours, tmp_path / "theirs")

    assert [path.name for path in out.glob("*.json") if "ragkit" in path.read_text()] == []


def test_tokenizer_and_settings_come_along(ours, tmp_path):
    out = export_model(ours, tmp_path / "theirs")

    assert AutoTokenizer.from_pretrained(out)("w1 w2").input_ids == [4, 5]
    assert AutoModelForCausalLM.from_pretrained(out).generation_config.eos_token_id == [1, 7]


def test_what_is_exported_opens_as_ours_again(ours, tmp_path):
    before, _ = load_model(ours, device="cpu")

    after, _ = load_model(export_model(ours, tmp_path / "theirs"), device="cpu")

    torch.testing.assert_close(after.state_dict(), before.state_dict(), rtol=0, atol=0)


def test_weights_keep_their_dtype(tmp_path):
    tiny_llama().bfloat16().save_pretrained(tmp_path / "half")
    tiny_tokenizer().save_pretrained(tmp_path / "half")

    out = export_model(tmp_path / "half", tmp_path / "out")

    assert AutoModelForCausalLM.from_pretrained(out).dtype == torch.bfloat16


def test_a_gguf_file_becomes_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("RAGKIT_CACHE", str(tmp_path / "cache"))
    llama = tiny_llama(vocab_size=30)
    path = write_gguf(tmp_path / "tiny.gguf", llama)

    found = AutoModelForCausalLM.from_pretrained(export_model(path, tmp_path / "out"))

    torch.testing.assert_close(logits(found), logits(llama), rtol=0, atol=0)


def test_another_causal_model_is_saved_as_it_is(tmp_path):
    config = GPT2Config(n_embd=24, n_layer=2, n_head=6, vocab_size=31, n_positions=16)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    tiny_tokenizer().save_pretrained(tmp_path / "gpt2")

    out = export_model(tmp_path / "gpt2", tmp_path / "out")

    assert isinstance(AutoModelForCausalLM.from_pretrained(out), GPT2LMHeadModel)


def test_a_folder_with_something_in_it_stays(ours, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")

    with pytest.raises(ConfigError, match="is not empty: give another folder, or --overwrite"):
        export_model(ours, out)
    with pytest.raises(ConfigError, match=r"no config.json.*--overwrite does not remove"):
        export_model(ours, out, overwrite=True)
    assert names(out) == ["notes.txt"]


def test_a_model_is_replaced_when_told(ours, tmp_path):
    out = write_llama(tmp_path / "out", seed=1, shard="9KB")

    export_model(ours, out, overwrite=True)

    assert "model.safetensors" in names(out)
    assert "model.safetensors.index.json" not in names(out)


def test_an_empty_folder_is_filled(ours, tmp_path):
    (tmp_path / "out").mkdir()

    assert "config.json" in names(export_model(ours, tmp_path / "out"))


def test_a_file_is_no_place_for_it(ours, tmp_path):
    (tmp_path / "out").write_text("")

    with pytest.raises(ConfigError, match="is a file: give a folder"):
        export_model(ours, tmp_path / "out")


@pytest.mark.parametrize("out", [".", "..", "../ours"])
def test_a_model_does_not_replace_itself(ours, out):
    with pytest.raises(ConfigError, match="holds the model itself: give another folder"):
        export_model(ours, ours / out, overwrite=True)


def test_a_full_disk_leaves_what_was_there(ours, tmp_path):
    out = write_llama(tmp_path / "out")
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    with (
        pytest.raises(StorageError, match=r"cannot write .*out.*: .*free some space"),
        limited("RLIMIT_FSIZE", 9000),  # less than the weights
    ):
        export_model(ours, out, overwrite=True)

    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert names(tmp_path) == ["llama", "ours", "out"]


def test_a_place_that_cannot_be_written_is_named(ours, tmp_path):
    (tmp_path / "occupied").write_text("")

    with pytest.raises(StorageError, match=r"cannot write .*occupied/out.*check the path"):
        export_model(ours, tmp_path / "occupied" / "out")


def test_a_model_that_diverged_is_not_exported(tmp_path):
    llama = tiny_llama()
    llama.model.norm.weight.data[2] = float("nan")
    llama.save_pretrained(tmp_path / "llama")
    tiny_tokenizer().save_pretrained(tmp_path / "llama")

    with pytest.raises(CheckpointError, match=r"model.norm.weight holds NaN .*earlier checkpoint"):
        export_model(tmp_path / "llama", tmp_path / "out")

    assert not (tmp_path / "out").exists()
