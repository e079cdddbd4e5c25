import pytest

from ragkit.errors import ConfigError
from ragkit.training.folder import RunFolder

RECIPE = {"training": {"seed": 3, "report_to": ("wandb",)}, "out": "x"}
FACTS = {"num_rows": 7}


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.claim(RECIPE, FACTS, overwrite=False)
    (folder.path / "checkpoints").mkdir()
    return folder


def test_an_equal_run_may_go_on(folder):
    folder.claim(RECIPE, FACTS, overwrite=False)

    assert folder.checkpoints.is_dir()


@pytest.mark.parametrize(
    ("recipe", "facts", "fault"),
    [
        ({**RECIPE, "out": "y"}, FACTS, "out: was 'x', now 'y'"),
        ({"training": {"seed": 4, "report_to": []}}, FACTS, r"training\.seed: was 3, now 4"),
        ({**RECIPE, "extra": {"k": 1}}, FACTS, r"extra\.k: was None, now 1"),
        (RECIPE, {"num_rows": 8}, "num_rows: was 7, now 8"),
    ],
)
def test_a_run_that_differs_is_told_where(folder, recipe, facts, fault):
    with pytest.raises(ConfigError, match=rf"(?s)choose another folder, or overwrite.*{fault}"):
        folder.claim(recipe, facts, overwrite=False)


def test_overwriting_takes_the_former_run_away(folder):
    folder.claim({"out": "y"}, FACTS, overwrite=True)

    assert not folder.checkpoints.exists()
    assert folder.recipe.read_text() == "out: y\n"


def test_files_beside_a_run_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("learning rate of last week: 3e-4")

    for overwrite in (False, True):
        RunFolder(tmp_path).claim(RECIPE, FACTS, overwrite=overwrite)

    assert (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_model_of_unknown_origin_is_not_overwritten(tmp_path, overwrite):
    (tmp_path / "model").mkdir()

    with pytest.raises(ConfigError, match="holds model, but not of a run: choose another folder"):
        RunFolder(tmp_path).claim(RECIPE, FACTS, overwrite=overwrite)

    assert (tmp_path / "model").is_dir()


def test_a_folder_that_a_kill_left_half_claimed_may_be_used(folder):
    folder.facts.unlink()
    folder.recipe.with_name("facts.yaml.partial").write_text("num_")

    folder.claim(RECIPE, FACTS, overwrite=False)

    assert folder.facts.read_text() == "num_rows: 7\n"
