import errno
import os
from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import StorageError
from ragkit.storage import (
    durable_file,
    hash_file,
    published_folder,
    remove_file,
    remove_folder,
    require_free,
    storage_errors,
)


def test_a_file_appears_whole_with_its_hash(tmp_path):
    path = tmp_path / "block"

    with durable_file(path) as file:
        file.write(b"one ")
        file.write(memoryview(b"two"))

    assert path.read_bytes() == b"one two"
    assert (file.size_bytes, file.xxh3) == (7, xxhash.xxh3_128_hexdigest(b"one two"))
    assert hash_file(path) == file.xxh3


@given(st.lists(st.binary(max_size=70)))
def test_the_hash_on_the_fly_is_the_hash_of_the_file(tmp_path_factory, blocks):
    path = tmp_path_factory.mktemp("hash") / "file"

    with durable_file(path) as file:
        for block in blocks:
            file.write(block)

    assert file.xxh3 == hash_file(path)


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "kept"
    path.write_bytes(b"before")

    def fail_half_way():
        with durable_file(path) as file:
            file.write(b"after")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()

    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_says_how_much_is_free_and_what_to_do(tmp_path):
    with (
        pytest.raises(StorageError, match=r"bytes are free: free some space and run the same"),
        storage_errors(tmp_path / "x"),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"one byte")


def test_a_missing_folder_is_a_storage_error(tmp_path):
    path = tmp_path / "absent" / "file"

    with pytest.raises(StorageError, match="check the path"), durable_file(path) as file:
        file.write(b"")


def test_what_cannot_be_removed_is_named(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match=r"cannot remove .*file: .*: check the path"):
        remove_folder(tmp_path / "file")
    with pytest.raises(StorageError, match=r"cannot remove .*: check the path, its permissions"):
        remove_file(tmp_path)


def test_a_build_that_cannot_fit_is_refused(tmp_path):
    with pytest.raises(StorageError, match="free some space or choose another disk"):
        require_free(tmp_path / "not" / "there" / "yet", 1 << 60)

    require_free(tmp_path / "not" / "there" / "yet", 1)


def test_other_errors_keep_their_reason(tmp_path):
    with pytest.raises(StorageError, match=os.strerror(errno.EIO)), storage_errors(tmp_path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


UNIQUE = "0123456789abcdef" * 2


def test_a_folder_appears_whole_and_replaces_the_old(tmp_path):
    target = tmp_path / "store"
    target.mkdir()
    (target / "old").write_text("1")

    with published_folder(target) as folder:
        (folder / "new").write_text("2")
        assert (target / "old").exists()

    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_folder_that_fails_leaves_the_old(tmp_path):
    target = tmp_path / "store"
    target.mkdir()
    (target / "old").write_text("1")

    with pytest.raises(ZeroDivisionError, match="by zero"), published_folder(target) as folder:
        (folder / "new").write_text(str(1 / 0))

    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_what_a_killed_process_left_of_a_folder_is_removed(tmp_path):
    left = tmp_path / f".store.{UNIQUE}.partial"
    left.mkdir()

    with published_folder(tmp_path / "store") as folder:
        (folder / "new").write_text("2")

    assert not left.exists()


def test_a_folder_where_a_file_stands_in_the_way_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(StorageError, match="check the path"),
        published_folder(tmp_path / "file" / "x"),
    ):
        pass


def test_what_a_killed_process_had_put_aside_comes_back(tmp_path):
    aside = tmp_path / f".store.{UNIQUE}.replaced"
    aside.mkdir()
    (aside / "old").write_text("1")

    with (
        pytest.raises(ZeroDivisionError, match="by zero"),
        published_folder(tmp_path / "store") as folder,
    ):
        (folder / "new").write_text(str(1 / 0))

    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert (tmp_path / "store" / "old").read_text() == "1"


def test_what_was_put_aside_goes_once_the_new_folder_stands(tmp_path):
    for name in ("store", f".store.{UNIQUE}.replaced"):
        (tmp_path / name).mkdir()

    with published_folder(tmp_path / "store") as folder:
        (folder / "new").write_text("2")

    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("name", ["store.1", "store.1.2", "[s]tore", "restore"])
def test_folders_of_other_names_are_left_alone(tmp_path, name):
    other = tmp_path / f".{name}.{UNIQUE}.partial"
    other.mkdir()

    with published_folder(tmp_path / "store") as folder:
        (folder / "new").write_text("2")

    assert other.is_dir()
