import os

import pytest
import xxhash

from ragkit.data import ReadOptions, sources
from ragkit.errors import DataError


def test_every_file_has_its_size_time_and_hash(tmp_path):
    (tmp_path / "b.txt").write_bytes(b"words")
    (tmp_path / "a.txt").write_bytes(b"more words")
    os.utime(tmp_path / "a.txt", (86_400, 86_400))

    first, second = sources([str(tmp_path)])

    assert first == {
        "uri": str(tmp_path / "a.txt"),
        "bytes": 10,
        "mtime": "1970-01-02T00:00:00+00:00",
        "xxh3": xxhash.xxh3_128_hexdigest(b"more words"),
    }
    assert second["uri"] == str(tmp_path / "b.txt")


def test_streams_that_can_be_read_only_once_are_left_alone(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    assert sources(["-", str(tmp_path / "pipe")]) == []


def test_only_the_files_of_the_named_format_count(tmp_path):
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.md").touch()

    [source] = sources([str(tmp_path)], options=ReadOptions(format="markdown"))

    assert source["uri"].endswith("b.md")


def test_a_missing_input_is_an_error(tmp_path):
    with pytest.raises(DataError, match="check the path"):
        sources([str(tmp_path / "gone")])
