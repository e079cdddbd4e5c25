import json

import pytest

from ragkit.config import fit_config
from ragkit.errors import ConfigError
from ragkit.evaluation.perplexity_recipe import (
    PerplexityRecipe,
    measure_perplexity,
    run_perplexity,
)
from tests.evaluation.models import TEXTS, tiny_bpe, tiny_llama


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny Llama with its tokenizer in `model`, and documents in `data`."""
    folder = tmp_path_factory.mktemp("perplexity")
    tiny_llama().save_pretrained(folder / "model")
    tiny_bpe().save_pretrained(folder / "model")
    (folder / "data").mkdir()
    lines = [json.dumps({"id": str(i), "text": f"{TEXTS[0]} {i}"}) for i in range(4)]
    (folder / "data" / "d.jsonl").write_text("\n".join(lines))
    return folder


def recipe_of(folder, **more):
    tree = {"kind": "perplexity", "model": str(folder / "model"), "inputs": ["d.jsonl"], **more}
    return fit_config(PerplexityRecipe, tree, origin="the test")


def test_a_recipe_scores_the_files_below_its_data(folder, monkeypatch):
    monkeypatch.setenv("RAGKIT_DATA", str(folder / "data"))
    recipe = recipe_of(folder, options={"context_length": 11, "stride": 3, "read": {"limit": 2}})

    report = run_perplexity(recipe)

    inputs = [str(folder / "data" / "d.jsonl")]
    assert report == measure_perplexity(recipe.model, inputs, recipe.options)
    assert (report.documents, report.context_length, report.stride) == (2, 11, 3)


def test_the_recipe_may_say_where_the_data_is(folder):
    recipe = recipe_of(folder, data_dir=str(folder / "data"))

    assert run_perplexity(recipe).documents == 4


def test_an_unknown_key_is_named(folder):
    with pytest.raises(ConfigError, match=r"options\.window"):
        recipe_of(folder, options={"window": 12})
