import json
import subprocess
import sys

import numpy as np
import pytest

from ragkit.encoders import load_encoder
from ragkit.errors import CheckpointError, ConfigError, ShapeError
from ragkit.testing import write_tiny_bert, write_tiny_encoder

FUNCTIONS = """
import numpy as np
def lengths(texts): return np.array([[len(text), 1, 2] for text in texts])
def flat(texts): return np.zeros(len(texts))
def growing(texts): return np.zeros((len(texts), len(texts)))
constant = 5
"""


@pytest.fixture
def functions(tmp_path, monkeypatch):
    (tmp_path / "ragkit_test_functions.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    return "python:ragkit_test_functions"


def test_importing_the_encoders_loads_no_torch():
    code = "import ragkit.encoders, ragkit.hub, sys; ragkit.encoders.load_encoder('hash:5');" + (
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'faiss')))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_hash_takes_its_width_from_the_name():
    encoder = load_encoder("hash:19", max_length=4, query_prefix="ask")

    assert (encoder.dim, encoder.max_seq_length) == (19, 4)
    assert encoder.tokenize(["one"], role="query").lengths.tolist() == [1]
    assert encoder.tokenize([" one"], role="query").lengths.tolist() == [2]
    assert encoder.describe()["name"] == "hash:19"


@pytest.mark.parametrize("spec", ["hash:", "hash:x", "hash:-3"])
def test_hash_needs_a_number(spec):
    with pytest.raises(ConfigError, match="write hash:256"):
        load_encoder(spec)


def test_a_python_function_gets_the_texts_back(functions):
    encoder = load_encoder(f"{functions}:lengths", passage_prefix="p: ")

    vectors = encoder.encode(["wing", "", "\u00e9\U0001f600\ud800"], role="passage")

    assert vectors.tolist() == [[7, 1, 2], [3, 1, 2], [6, 1, 2]]
    assert (encoder.dim, encoder.normalized) == (3, False)
    assert encoder.describe()["name"] == f"{functions}:lengths"
    assert encoder.encode([], role="query").shape == (0, 3)


def test_offsets_of_a_function_are_those_of_the_bytes(functions):
    offsets = load_encoder(f"{functions}:lengths").token_offsets("a\u00e9b")

    assert offsets.tolist() == [[0, 1], [1, 2], [1, 2], [2, 3]]


@pytest.mark.parametrize(
    ("name", "error", "hint"),
    [
        ("absent", ConfigError, "write python:MODULE:NAME"),
        ("constant", ConfigError, "is not a function"),
        ("flat", ShapeError, "return one row per text"),
    ],
)
def test_a_function_that_cannot_embed_is_refused(functions, name, error, hint):
    with pytest.raises(error, match=hint):
        load_encoder(f"{functions}:{name}")


def test_a_function_keeps_its_width(functions):
    encoder = load_encoder(f"{functions}:growing")

    with pytest.raises(ShapeError, match="must give the same width"):
        encoder.encode(["one", "two"], role="query")


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"dtype": "int8"}, "auto or one of fp32, bf16, fp16"),
        ({"device": "gpu7"}, "give auto, cpu, cuda"),
        ({"device": "cuda:99"}, "a GPU that is not there"),
        ({"max_length": 38}, "reads at most 37 tokens"),
        ({"max_length": 2}, "give at least 3"),
        ({"dim": 25}, "give fewer or leave dim out"),
        ({"batch_tokens": 0}, "batch_tokens must be at least 1"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(tmp_path, options, hint):
    folder = write_tiny_encoder(tmp_path)

    with pytest.raises(ConfigError, match=hint):
        load_encoder(str(folder), **options)


def test_pickled_weights_are_not_read(tmp_path):
    folder = write_tiny_bert(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    with pytest.raises(CheckpointError, match="pickled weights are never read"):
        load_encoder(str(folder))


def test_missing_weights_are_not_made_up(tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = write_tiny_bert(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(CheckpointError, match=r"encoder\.layer\.1\.output\.dense\.weight: fetch"):
        load_encoder(str(folder), device="cpu")


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_damaged_file_is_named_or_its_folder(tmp_path, file):
    folder = write_tiny_bert(tmp_path)
    (folder / file).write_bytes(b"\x00damaged")

    with pytest.raises((CheckpointError, ConfigError), match=str(folder)):
        load_encoder(str(folder), device="cpu")


def test_a_module_that_is_not_run_here_is_named(tmp_path):
    folder = write_tiny_encoder(tmp_path)
    modules = json.loads((folder / "modules.json").read_text())
    modules[-1]["type"] = "sentence_transformers.models.CNN"
    (folder / "modules.json").write_text(json.dumps(modules))

    with pytest.raises(ConfigError, match="Transformer -> Pooling -> CNN"):
        load_encoder(str(folder))


def test_an_empty_folder_is_no_model(tmp_path):
    with pytest.raises(CheckpointError, match=r"no config.json"):
        load_encoder(str(tmp_path))


def test_code_of_a_model_needs_consent(tmp_path):
    folder = write_tiny_bert(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "ragkit_unknown", "auto_map": {"AutoConfig": "code.Config"}}
    (folder / "config.json").write_text(json.dumps(config))

    with pytest.raises(ConfigError, match="allow it with trust_remote_code=True"):
        load_encoder(str(folder))


def test_a_prompt_outside_the_pooling_is_refused(tmp_path):
    folder = write_tiny_encoder(tmp_path, prompts={"query": "query: "})
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps(pooling | {"include_prompt": False})
    )

    with pytest.raises(ConfigError, match="leaves its prompt out of the pooling"):
        load_encoder(str(folder))
    vectors = load_encoder(str(folder), device="cpu", query_prefix="").encode(["x"], role="query")
    assert np.isfinite(vectors).all()


def test_a_dense_layer_without_safetensors_is_refused(tmp_path):
    folder = write_tiny_encoder(tmp_path, projected_size=17)
    (folder / "2_Dense" / "model.safetensors").unlink()

    with pytest.raises(CheckpointError, match="fetch the model again, with"):
        load_encoder(str(folder))
