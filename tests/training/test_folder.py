import os

import pytest

from ragkit.errors import ConfigError, StorageError
from ragkit.training.folder import RunFolder

RECIPE = {"training": {"seed": 3, "report_to": ("wandb",)}, "out": "x"}
FACTS = {"num_rows": 7}


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.claim(RECIPE, FACTS, overwrite=False)
    (folder.path / "checkpoints").mkdir()
    return folder


def test_an_equal_run_may_go_on(folder):
    folder.claim(RECIPE, FACTS, overwrite=False)

    assert folder.checkpoints.is_dir()


@pytest.mark.parametrize(
    ("recipe", "facts", "fault"),
    [
        ({**RECIPE, "out": "y"}, FACTS, "out: 'x' then, 'y' now"),
        ({"training": {"seed": 4, "report_to": []}}, FACTS, r"training\.seed: 3 then, 4 now"),
        ({**RECIPE, "extra": {"k": 1}}, FACTS, r"extra\.k: None then, 1 now"),
        (RECIPE, {"num_rows": 8}, "num_rows: 7 then, 8 now"),
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


def test_a_folder_is_locked_for_one_run_at_a_time(tmp_path):
    folder = RunFolder(tmp_path / "run")
    taken = pytest.raises(ConfigError, match=r"another process trains in .*run: wait until it ends")

    with folder.locked(), taken, RunFolder(folder.path).locked():
        pass

    with RunFolder(folder.path).locked():
        pass


def test_a_process_that_is_forked_from_a_run_does_not_keep_the_lock(tmp_path):
    folder = RunFolder(tmp_path)
    ours, theirs = os.pipe()
    with folder.locked():
        child = os.fork()
        if not child:
            os.close(theirs)
            os.read(ours, 1)  # until the parent closes its end
            os._exit(0)

    with RunFolder(folder.path).locked():
        pass

    os.close(theirs)
    assert os.waitpid(child, 0)[1] == 0


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="check the path"), RunFolder(tmp_path / "file").locked():
        pass
