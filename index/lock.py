"""One writer at a time: an advisory lock that the system drops when its holder dies."""

import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ragkit.errors import IndexLockedError, StorageError
from ragkit.storage import storage_errors

if sys.platform == "win32":
    import msvcrt

    def _take(file: BinaryIO) -> None:
        # Beyond the holder's line, which others must be able to read.
        file.seek(1 << 20)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _take(file: BinaryIO) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def writer_lock(path: Path, *, break_lock: bool = False) -> Iterator[None]:
    """Be the only writer while the block runs.

    Args:
        break_lock: Take over a lock that a process on another host left behind. The system
            releases the lock of a dead process on this host by itself.

    Raises:
        IndexLockedError: Another process writes; the message names it.
    """
    with storage_errors(path):
        file = path.open("a+b", buffering=0)  # a full disk is felt by the write, not by the close
    with file:
        try:
            _take(file)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                raise StorageError(
                    f"{path} cannot be locked ({error.strerror}): build on a file system with locks"
                ) from error
            raise _locked(_holder(file)) from error
        _refuse_other_host(_holder(file), break_lock=break_lock)
        with storage_errors(path):
            _sign(file)
        try:
            yield
        finally:
            file.truncate(0)


def _sign(file: BinaryIO) -> None:
    """Say who holds the lock, for the message of the next one."""
    command = Path(sys.argv[0]).name if sys.argv else ""
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = {"pid": os.getpid(), "host": socket.gethostname(), "start": started, "command": command}
    file.truncate(0)
    file.write(json.dumps(line).encode())


def _holder(file: BinaryIO) -> dict[str, str | int]:
    file.seek(0)
    try:
        holder = json.loads(file.read() or b"{}")
    except ValueError:  # its writer was killed in the middle of the line
        return {}
    return holder if isinstance(holder, dict) else {}


def _refuse_other_host(holder: dict[str, str | int], *, break_lock: bool) -> None:
    """A shared file system may not carry the lock itself, so its last holder counts."""
    if holder and holder.get("host") != socket.gethostname() and not break_lock:
        raise _locked(holder, "; if that process is dead, pass --break-lock")


def _locked(holder: dict[str, str | int], hint: str = "") -> IndexLockedError:
    who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
    since = f" since {holder['start']}" if "start" in holder else ""
    return IndexLockedError(
        f"another writer holds the index: {who}{since}; wait until it ends{hint}"
    )
