import json

import pytest

from ragkit.data import Rejects
from ragkit.errors import ConfigError, DataError, StorageError


def test_each_row_is_one_line_of_json_and_is_counted(tmp_path):
    path = tmp_path / "deep" / "rejects.jsonl"

    with Rejects(path) as rejects:
        rejects.refuse("a.jsonl:3", "the text is empty", code="empty")
        rejects.alter("a.jsonl:4", "\ud800", code="lone_surrogate")
        rejects.alter("a.jsonl:5", "again", code="lone_surrogate")

    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines[0] == {
        "source": "a.jsonl:3",
        "reason": "the text is empty",
        "code": "empty",
        "action": "refused",
    }
    assert [line["action"] for line in lines] == ["refused", "altered", "altered"]
    assert (rejects.counts, rejects.refused) == ({"empty": 1, "lone_surrogate": 2}, 1)


def test_no_file_is_made_where_nothing_is_refused(tmp_path):
    with Rejects(tmp_path / "rejects.jsonl") as rejects:
        rejects.check(0, "1%")

    assert list(tmp_path.iterdir()) == []


def test_rows_that_come_after_closing_are_added(tmp_path):
    rejects = Rejects(tmp_path / "rejects.jsonl")

    for number in range(3):
        rejects.refuse(f"a:{number}", "cut", code="malformed")
        rejects.close()

    assert (tmp_path / "rejects.jsonl").read_text(encoding="utf-8").count("\n") == 3


@pytest.mark.parametrize(
    ("limit", "passes"), [("2%", True), ("1.9%", False), (4, True), ("3", False)]
)
def test_the_limit_is_a_share_or_a_number(limit, passes):
    rejects = Rejects()
    for number in range(4):
        rejects.refuse(f"a:{number}", "cut", code="malformed")

    if passes:
        rejects.check(200, limit)
    else:
        with pytest.raises(DataError, match="raise --max-rejects"):
            rejects.check(200, limit)


def test_the_error_names_the_file_and_the_first_reasons(tmp_path):
    with Rejects(tmp_path / "rejects.jsonl") as rejects:
        for number in range(9):
            rejects.refuse(f"a.jsonl:{number}", "the line is cut", code="malformed")

        with pytest.raises(DataError, match=r"(?s)9 of 10 rows.*:4: the line.*s\.jsonl") as caught:
            rejects.check(10, "1%")

    assert "a.jsonl:5" not in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("code", ["empty", "duplicate", "duplicate_text", "invalid_utf8"])
def test_what_a_policy_skips_never_fails_a_run(code):
    rejects = Rejects()

    rejects.refuse("a:1", "as asked", code=code)

    rejects.check(1, 0)


@pytest.mark.parametrize("limit", ["many", "-1%", "1.5", "nan%", -3])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(ConfigError, match="1% or 20"):
        Rejects().check(10, limit)


def test_a_full_disk_is_a_storage_error(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()

    with pytest.raises(StorageError, match="free space"):
        Rejects(blocked / "rejects.jsonl").refuse("a:1", "cut", code="malformed")
