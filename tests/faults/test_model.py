"""A model that changed behind its name is noticed when the index is opened."""

import json
import shutil

import pytest

from ragkit.errors import ModelMismatchError
from ragkit.retrieval.build import build_index
from ragkit.retrieval.retriever import Retriever
from tests.cli.running import run

pytestmark = pytest.mark.slow

CHANGED_LAYER = "encoder.layer.0."
NOTICED_SCALE = 1.2
TEXTS = ["the wing", "heat flow", "drag of the layer", "a shock", "query and passage"]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """An index, and the model that embedded it."""
    from ragkit.testing import write_tiny_encoder

    folder = tmp_path_factory.mktemp("model")
    write_tiny_encoder(folder / "model")
    rows = [{"id": str(i), "text": text} for i, text in enumerate(TEXTS)]
    (folder / "c.jsonl").write_text("\n".join(map(json.dumps, rows)))
    build_index(folder / "c.jsonl", folder / "i", encoder=str(folder / "model"))
    return folder


@pytest.fixture
def model(original):
    """The model's folder, to change; it is put back afterwards, since the index names its path."""
    saved = shutil.copytree(original / "model", original / "saved")
    yield original / "model"
    shutil.rmtree(original / "model")
    saved.rename(original / "model")


def scale_a_layer(model, factor):
    from safetensors.torch import load_file, save_file

    tensors = {
        name: tensor * factor if name.startswith(CHANGED_LAYER) else tensor
        for name, tensor in load_file(model / "model.safetensors").items()
    }
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


def switch_the_pooling(model):
    path = model / "1_Pooling" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pooling_mode": "cls"}))


def drop_the_normalisation(model):
    path = model / "modules.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:-1]))


def rename_two_words(model):
    path = model / "tokenizer.json"
    path.write_text(path.read_text().replace('"of"', '"fo"').replace('"the"', '"hte"'))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda model: scale_a_layer(model, NOTICED_SCALE), "other weights"),
        (switch_the_pooling, r"another pooling \('mean' then, 'cls' now\)"),
        (drop_the_normalisation, r"another normalisation \(True then, False now\)"),
        (rename_two_words, "another tokenizer"),
    ],
)
def test_a_changed_model_is_refused_with_its_cause(original, model, change, cause):
    change(model)

    result = run("index", "search", original / "i", "wing")

    assert result.exit_code == 4
    with pytest.raises(ModelMismatchError, match=cause):
        Retriever.open(original / "i", verify="full")


def test_the_model_as_it_was_is_accepted(original, model):
    scale_a_layer(model, 1.0)  # the same weights, saved anew

    with Retriever.open(original / "i", verify="full") as retriever:
        assert retriever.search("the wing", k=1)[0].id == "0"


def test_another_model_of_the_same_width_is_refused(original, tmp_path):
    from ragkit.testing import write_tiny_encoder

    other = write_tiny_encoder(tmp_path / "other", seed=1)

    result = run("index", "search", original / "i", "wing", "--encoder", other)

    assert result.exit_code == 4
    assert "use the model" in result.stderr


def test_a_model_of_another_width_is_refused(original):
    result = run("index", "search", original / "i", "wing", "--encoder", "hash:16")

    assert result.exit_code == 4
    assert "it gives 16 dimensions, not 24" in result.stderr


def test_a_rebuild_with_a_changed_model_needs_overwrite(original, model):
    scale_a_layer(model, 1.01)

    arguments = ("index", "build", original / "c.jsonl", "-o", original / "i", "--encoder", model)
    result = run(*arguments)

    assert result.exit_code == 4
    assert "model.weights_sha256" in result.stderr
    assert "pass --overwrite to publish a new generation" in result.stderr
