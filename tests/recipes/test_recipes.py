"""Every recipe that ships fits its schema and says how to run it."""

from pathlib import Path

import pytest
import yaml

from ragkit.config import find_recipe, load_config
from ragkit.evaluation.perplexity_recipe import PerplexityRecipe
from ragkit.evaluation.retrieval_recipe import RetrievalRecipe
from ragkit.finetune.pretrain import PretrainRecipe
from ragkit.finetune.radit.recipe import RaditRecipe

FOLDER = Path(__file__).parents[2] / "recipes"
LAUNCH = FOLDER / "accelerate"  # read by accelerate, not by ragkit
NAMES = sorted(
    str(path.relative_to(FOLDER).with_suffix(""))
    for path in FOLDER.rglob("*.yaml")
    if LAUNCH not in path.parents
)
SCHEMAS = {
    "retrieval": RetrievalRecipe,
    "perplexity": PerplexityRecipe,
    "pretrain": PretrainRecipe,
    "radit": RaditRecipe,
}
COMMANDS = {
    "retrieval": "ragkit eval",
    "perplexity": "ragkit eval",
    "pretrain": "ragkit pretrain",
    "radit": "ragkit finetune",
}
PLACES = ("queries", "qrels", "out", "tokens", "index")


def test_every_recipe_is_found():
    assert len(NAMES) >= 4


def test_every_task_has_a_recipe_that_ends_in_seconds():
    tasks = {name.split("/")[0] for name in NAMES}

    assert {name.split("/")[0] for name in NAMES if name.endswith("tiny")} == tasks


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_fits_its_schema(name):
    path = find_recipe(name)
    kind = yaml.safe_load(path.read_text(encoding="utf-8"))["kind"]

    recipe = load_config(SCHEMAS[kind], path)

    assert recipe.kind == kind


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_starts_with_its_command(name):
    text = find_recipe(name).read_text(encoding="utf-8")

    header = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert text.startswith(header)
    assert f"{COMMANDS[yaml.safe_load(text)['kind']]} {name}" in header


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_names_data_below_data_dir(name):
    recipe = yaml.safe_load(find_recipe(name).read_text(encoding="utf-8"))

    corpus = recipe.get("corpus", recipe)
    files = [*corpus["inputs"], *(task["file"] for task in recipe.get("tasks", ()))]
    files += [tree[name] for tree in (recipe, corpus) for name in PLACES if name in tree]
    assert not [file for file in files if Path(file).is_absolute() or ".." in Path(file).parts]
