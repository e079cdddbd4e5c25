import errno

import pytest

from ragkit.errors import StorageError
from ragkit.training.checkpoints import Checkpoints, writing


def save(checkpoints, step):
    """Save a checkpoint of one file, and of one in a folder."""
    checkpoints.prepare()
    folder = checkpoints.staging / f"checkpoint-{step}"
    (folder / "shard").mkdir(parents=True)
    (folder / "weights").write_bytes(b"w" * step)
    (folder / "shard" / "optimizer").write_bytes(b"o" * step)
    checkpoints.publish(step, {"seen": step})


@pytest.fixture
def checkpoints(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", limit=2)
    for step in (8, 9, 10):
        save(checkpoints, step)
    return checkpoints


def test_the_newest_is_found_by_its_number(checkpoints):
    found = checkpoints.latest()

    assert (found.step, found.state) == (10, {"seen": 10})
    assert found.path.name == "checkpoint-10"


def test_no_more_are_kept_than_asked_for(checkpoints):
    assert {path.name for path in checkpoints.folder.iterdir()} == {"checkpoint-9", "checkpoint-10"}


@pytest.mark.parametrize("name", ["weights", "shard/optimizer", "ragkit_state.json"])
@pytest.mark.parametrize("damage", ["truncate", "remove"])
def test_a_damaged_one_is_passed_over_with_a_warning(checkpoints, caplog, name, damage):
    file = checkpoints.folder / "checkpoint-10" / name
    file.write_bytes(b"") if damage == "truncate" else file.unlink()

    assert checkpoints.latest().step == 9
    assert "checkpoint-10 is damaged" in caplog.text


def test_one_that_was_not_published_does_not_count_and_makes_room(checkpoints):
    checkpoints.prepare()
    half = checkpoints.staging / "checkpoint-11"
    half.mkdir()

    assert checkpoints.latest().step == 10
    checkpoints.prepare()
    assert not half.exists()


def test_one_that_is_damaged_gives_way_to_a_new_one_of_its_step(checkpoints):
    (checkpoints.folder / "checkpoint-10" / "weights").unlink()

    save(checkpoints, 10)

    assert checkpoints.latest().step == 10


@pytest.mark.parametrize("limit", [1, 2])
def test_damaged_ones_of_later_steps_give_way_to_a_new_one(checkpoints, limit):
    for step in (9, 10):
        (checkpoints.folder / f"checkpoint-{step}" / "weights").unlink()

    save(Checkpoints(checkpoints.folder, limit=limit), 7)

    assert checkpoints.latest().step == 7
    assert [path.name for path in checkpoints.folder.iterdir()] == ["checkpoint-7"]


def test_a_folder_of_another_name_is_no_checkpoint(checkpoints):
    (checkpoints.folder / "checkpoint-best").mkdir()

    assert checkpoints.latest().step == 10


def test_a_folder_without_any_has_no_newest(tmp_path):
    assert Checkpoints(tmp_path / "none", limit=2).latest() is None


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
    ],
)
def test_what_a_full_disk_raises_becomes_a_storage_error(tmp_path, error):
    with pytest.raises(StorageError, match="are free: free some space"), writing(tmp_path):
        raise error


def test_another_error_stays_what_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="shapes differ"), writing(tmp_path):
        raise RuntimeError("shapes differ")
