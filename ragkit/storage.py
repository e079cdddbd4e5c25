"""Writes that are complete and on the disk, or an error: a full disk can look like success."""

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import xxhash

from ragkit.errors import StorageError

READ_BYTES = 1 << 20
PARTIAL, REPLACED = ".partial", ".replaced"


class HashingFile:
    """A binary file, open for writing, that hashes what passes through it.

    Has what pyarrow and faiss ask of a file object: `write`, `tell`, `flush`, `close`, `closed`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = xxhash.xxh3_128()
        self.size_bytes = 0

    def write(self, data: bytes | memoryview) -> int:
        """Append all of `data`; the number of bytes written."""
        view = memoryview(data)
        if not view.nbytes:
            return 0
        view = view.cast("B")
        self._file.write(view)
        self._hash.update(view)
        self.size_bytes += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        """Bytes written so far."""
        return self.size_bytes

    def flush(self) -> None:
        """Hand what is buffered to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Do nothing: the file is closed, after the sync, by the one who opened it."""

    closed = False

    def writable(self) -> bool:
        """True."""
        return True

    def readable(self) -> bool:
        """False."""
        return False

    def seekable(self) -> bool:
        """False."""
        return False

    @property
    def xxh3(self) -> str:
        """Hash of all that was written, in hex."""
        return self._hash.hexdigest()


@contextmanager
def durable_file(path: Path) -> Iterator[HashingFile]:
    """A file that appears at `path`, whole and synced, when the block ends, or not at all.

    Raises:
        StorageError: The disk is full, read-only or failing.
    """
    partial = path.with_name(f"{path.name}{PARTIAL}")
    with storage_errors(path):
        try:
            with partial.open("wb") as file:
                hashing = HashingFile(file)
                yield hashing
                file.flush()
                os.fsync(file.fileno())
            _require_size(partial, hashing.size_bytes)
            partial.replace(path)
            sync_folder(path.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def published_folder(path: Path) -> Iterator[Path]:
    """A new folder that takes the place of `path` when the block ends, or vanishes if it fails.

    What stood at `path` before steps aside for a moment then, and is removed once the new folder
    stands there. One process at a time may write it. What a killed one left beside `path` is
    settled first: a new folder is removed, an old one comes back unless something stands at `path`.

    Raises:
        StorageError: The disk is full, read-only or failing.
    """
    partial = _beside(path, PARTIAL)
    with storage_errors(path):
        _settle(path)
        try:
            partial.mkdir(parents=True)
            yield partial
            sync_files(partial)
            _replace_folder(path, partial)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def storage_errors(path: Path, *, action: str = "write") -> Iterator[None]:
    """Turn an OSError of the block into a StorageError that names the path and the free space.

    Args:
        action: What the block does to the path, for the message.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"cannot {action} {path}: {_reason(error, path)}") from error


def make_folder(path: Path) -> None:
    """Create a folder and its parents, and make that last.

    Raises:
        StorageError: The disk is full or read-only, or permission is missing.
    """
    with storage_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        sync_folder(path.parent)


def rename_folder(source: Path, target: Path) -> None:
    """Move a folder within one disk, and make that last."""
    with storage_errors(target):
        source.rename(target)
        sync_folder(target.parent)
        sync_folder(source.parent)


def remove_file(path: Path) -> None:
    """Remove a file.

    Raises:
        StorageError: The disk is read-only or failing, or permission is missing.
    """
    with storage_errors(path, action="remove"):
        path.unlink()


def remove_folder(path: Path) -> None:
    """Remove a folder and all that is in it.

    Raises:
        StorageError: The disk is read-only or failing, or permission is missing.
    """
    with storage_errors(path, action="remove"):
        shutil.rmtree(path)


def sync_files(folder: Path) -> None:
    """Bring all files of a folder, and of those in it, to the disk.

    Raises:
        StorageError: The disk is full or failing.
    """
    with storage_errors(folder):
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make the names in a folder last; a no-op where the system has no such thing."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hash_file(path: Path) -> str:
    """xxh3-128 of a file's bytes, in hex."""
    digest = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def require_free(path: Path, needed_bytes: int) -> None:
    """Refuse to start what the disk cannot hold.

    Raises:
        StorageError: Less than `needed_bytes` are free where `path` will lie.
    """
    free = free_bytes(path)
    if free < needed_bytes:
        raise StorageError(
            f"{path} needs about {needed_bytes} bytes, {free} are free: "
            "free some space or choose another disk with -o"
        )


def free_bytes(path: Path) -> int:
    """Bytes that can still be written where `path` lies, or will lie."""
    return shutil.disk_usage(_existing(path)).free


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}{suffix}")


def _settle(path: Path) -> None:
    """Bring back or remove what killed writers of `path` left beside it."""
    if not path.parent.is_dir():
        return
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{32}}({PARTIAL}|{REPLACED})")
    for left in [each for each in path.parent.iterdir() if name.fullmatch(each.name)]:
        if left.suffix == REPLACED and not path.exists():
            left.rename(path)
        else:
            shutil.rmtree(left)


def _replace_folder(path: Path, new: Path) -> None:
    old = _beside(path, REPLACED)
    replaces = path.exists()
    if replaces:
        path.rename(old)
    try:
        new.rename(path)
    except OSError:
        if replaces:
            old.rename(path)
        raise
    sync_folder(path.parent)
    if replaces:
        shutil.rmtree(old)


def _existing(path: Path) -> Path:
    """`path` or its nearest parent that exists."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


def _require_size(path: Path, expected: int) -> None:
    found = path.stat().st_size
    if found != expected:
        raise OSError(errno.ENOSPC, f"{found} of {expected} bytes arrived on the disk")


def _reason(error: OSError, path: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"no space left on the device, {free_bytes(path)} bytes are free: free some space and "
            "run the same command again, it goes on where it stopped"
        )
    return f"{error.strerror or error}: check the path, its permissions and the disk"
