import pytest

from ragkit.errors import DataError, StorageError
from ragkit.evaluation.trec import write_run


def test_a_run_has_one_line_per_document(tmp_path):
    rankings = {"q1": [("d2", 0.75), ("d1", -0.5)], "q2": [], "q3": [("d1", 1e-7)]}

    write_run(tmp_path / "run.trec", rankings, tag="mine")

    assert (tmp_path / "run.trec").read_text().splitlines() == [
        "q1 Q0 d2 1 0.75 mine",
        "q1 Q0 d1 2 -0.5 mine",
        "q3 Q0 d1 1 1e-07 mine",
    ]


@pytest.mark.parametrize("rankings", [{"q 1": [("d1", 1.0)]}, {"q1": [("d\t1", 1.0)]}])
def test_ids_with_white_space_are_refused(tmp_path, rankings):
    with pytest.raises(DataError, match="rename the ids"):
        write_run(tmp_path / "run.trec", rankings)
    assert not (tmp_path / "run.trec").exists()


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"absent/run\.trec cannot be written: No such file"):
        write_run(tmp_path / "absent" / "run.trec", {})
