from hypothesis import given
from hypothesis import strategies as st

from ragkit.index.journal import Journal


def test_lines_come_back_in_order(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")

    journal.append({"part": 1})
    journal.append({"part": 2})

    assert journal.read() == [{"part": 1}, {"part": 2}]


def test_no_file_has_no_lines(tmp_path):
    assert Journal(tmp_path / "journal.jsonl").read() == []


@given(cut=st.integers(1, 40))
def test_a_torn_line_costs_only_itself(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("torn") / "journal.jsonl"
    journal = Journal(path)
    journal.append({"key": "first"})
    whole = path.stat().st_size
    journal.append({"key": "second, which is torn"})
    with path.open("rb+") as file:
        file.truncate(max(whole, path.stat().st_size - 1 - cut))

    journal.append({"key": "third"})

    assert journal.read() == [{"key": "first"}, {"key": "third"}]
