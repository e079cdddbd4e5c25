import pytest

from ragkit.errors import StorageError
from ragkit.training.metrics_file import MetricsFile


@pytest.fixture
def file(tmp_path):
    file = MetricsFile(tmp_path / "j.jsonl")
    for step in (2, 4, 6):
        file.append({"step": step, "loss_nats": 0.1 * step})
    return file


def test_lines_come_back_to_the_last_bit(file):
    assert file.lines() == [{"step": step, "loss_nats": 0.1 * step} for step in (2, 4, 6)]


@pytest.mark.parametrize(("step", "kept"), [(0, []), (4, [2, 4]), (5, [2, 4]), (9, [2, 4, 6])])
def test_what_came_after_a_step_is_cut_off(file, step, kept):
    file.cut(step)

    assert [line["step"] for line in file.lines()] == kept


@pytest.mark.parametrize("torn", ['{"step": 8, "loss', "\0\0\0", "{"])
def test_a_torn_last_line_is_dropped_and_the_next_stands_alone(tmp_path, file, torn):
    with (tmp_path / "j.jsonl").open("a") as other:
        other.write(torn)

    file.cut(6)
    file.append({"step": 8})

    assert [line["step"] for line in file.lines()] == [2, 4, 6, 8]


def test_a_missing_file_is_empty(tmp_path):
    file = MetricsFile(tmp_path / "none.jsonl")

    file.sync()
    file.cut(3)

    assert file.lines() == []


def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="check the path"):
        MetricsFile(tmp_path / "none" / "j.jsonl").append({"step": 1})
