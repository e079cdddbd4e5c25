import dataclasses
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ragkit.config import config, dump_config, find_recipe, load_config, require_kind
from ragkit.errors import ConfigError


@config
class Flat:
    kind: Literal["flat"] = "flat"


@config
class Clustered:
    kind: Literal["clustered"] = "clustered"
    nlist: int = 7


@config
class Optimizer:
    learning_rate: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)


@config
class Recipe:
    name: str
    optimizer: Optimizer = Optimizer()
    ann: Flat | Clustered = Flat()
    notes: str | None = None


def write(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_fill_what_the_file_leaves_out(tmp_path):
    path = write(tmp_path, "name: first\noptimizer:\n  learning_rate: 3e-4\n")

    recipe = load_config(Recipe, path)

    assert recipe == Recipe(name="first", optimizer=Optimizer(learning_rate=0.0003))


def test_overrides_win_and_may_name_groups_that_the_file_lacks(tmp_path):
    path = write(tmp_path, "name: first\n")

    recipe = load_config(
        Recipe, path, ["name=second", "optimizer.learning_rate=1e-5", "ann.kind=clustered"]
    )

    assert (recipe.name, recipe.optimizer.learning_rate) == ("second", 0.00001)
    assert recipe.ann == Clustered(nlist=7)


def test_an_override_is_read_as_yaml(tmp_path):
    path = write(tmp_path, "name: first\n")

    recipe = load_config(Recipe, path, ["optimizer.betas=[0.5, 0.75]", "notes=a=b"])

    assert recipe.optimizer.betas == (0.5, 0.75)
    assert recipe.notes == "a=b"


@given(
    recipe=st.builds(
        Recipe,
        name=st.text(),
        optimizer=st.builds(
            Optimizer,
            learning_rate=st.floats(allow_nan=False, allow_infinity=False),
            betas=st.tuples(st.floats(0, 1), st.floats(0, 1)),
        ),
        ann=st.builds(Flat) | st.builds(Clustered, nlist=st.integers()),
        notes=st.none() | st.text(),
    )
)
@example(recipe=Recipe(name="\x85", notes="\u2028 caf\u00e9"))
def test_a_dumped_recipe_loads_back_equal(recipe, tmp_path_factory):
    path = write(tmp_path_factory.mktemp("dump"), dump_config(recipe))

    assert load_config(Recipe, path) == recipe


def test_a_recipe_cannot_be_changed_by_accident():
    recipe = Recipe(name="first")

    with pytest.raises(dataclasses.FrozenInstanceError, match="name"):
        recipe.name = "second"


def test_every_fault_is_named_with_its_place_and_value(tmp_path):
    path = write(tmp_path, "optimizer:\n  learning_rate: big\n  momentum: 0.5\n")

    with pytest.raises(ConfigError, match="does not fit Recipe") as caught:
        load_config(Recipe, path)

    message = str(caught.value)
    assert "  name: Field required" in message
    assert "optimizer.learning_rate: Input should be a valid number" in message
    assert "got 'big'" in message
    assert "optimizer.momentum" in message


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a: [1", "is not a YAML file"),
        ("- a\n- b\n", "must hold `key: value` lines, found list"),
        ("", "name: Field required"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text, hint):
    with pytest.raises(ConfigError, match=hint):
        load_config(Recipe, write(tmp_path, text))


def test_a_file_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"name: caf\xe9\n")

    with pytest.raises(ConfigError, match="is not a YAML file"):
        load_config(Recipe, path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_config(Recipe, tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("name", "expected key=value"),
        ("=3", "expected key=value"),
        ("name.first=3", "'name' is a value, not a group"),
    ],
)
def test_a_malformed_override_is_refused(tmp_path, override, hint):
    with pytest.raises(ConfigError, match=hint):
        load_config(Recipe, write(tmp_path, "name: first\n"), [override])


def test_an_override_with_broken_yaml_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="name="):
        load_config(Recipe, write(tmp_path, "name: first\n"), ["name=[1"])


def test_a_recipe_is_found_by_its_path(tmp_path):
    path = write(tmp_path, "name: first\n")

    assert find_recipe(str(path)) == path


def test_an_unknown_recipe_is_refused():
    with pytest.raises(ConfigError, match="no recipe 'no/such': give a path"):
        find_recipe("no/such")


def test_a_recipe_of_the_right_kind_passes(tmp_path):
    path = write(tmp_path, "kind: retrieval\nqueries: 5\n")

    assert require_kind(path, {"perplexity", "retrieval"}) == "retrieval"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("kind: pretrain\n", r"is a pretrain recipe, .*: run `ragkit pretrain .*recipe\.yaml`"),
        ("kind: poem\n", "`kind: perplexity or retrieval`, found 'poem'"),
        ("name: first\n", "found None: add or mend"),
        ("kind: [retrieval]\n", r"found \['retrieval'\]"),
    ],
)
def test_a_recipe_of_another_kind_is_told_with_its_command(tmp_path, text, hint):
    with pytest.raises(ConfigError, match=hint):
        require_kind(write(tmp_path, text), {"perplexity", "retrieval"})
