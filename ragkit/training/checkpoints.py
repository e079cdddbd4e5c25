"""Checkpoints that appear whole or not at all."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ragkit.errors import StorageError
from ragkit.storage import (
    durable_file,
    free_bytes,
    make_folder,
    remove_folder,
    rename_folder,
    storage_errors,
    sync_files,
)

PREFIX = "checkpoint-"
STATE_NAME = "ragkit_state.json"
_TORCH_WRITER = "inline_container"  # names the file of torch's zip writer, in all that it raises

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Args:
        state: What was given to `publish`.
    """

    path: Path
    step: int
    state: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one run: written aside, then renamed.

    Args:
        folder: Holds `checkpoint-STEP` for each.
        limit: How many are kept.
    """

    def __init__(self, folder: Path, *, limit: int) -> None:
        self.folder, self._limit = folder, limit

    @property
    def staging(self) -> Path:
        """Where the next checkpoint is written, as `checkpoint-STEP`."""
        return self.folder / "unfinished"

    def latest(self) -> Checkpoint | None:
        """The newest that is whole; a damaged one is passed over with a warning."""
        for path in reversed(self._published()):
            state = _read_state(path)
            if state is not None:
                return Checkpoint(path, _step_of(path), state["state"])
            logger.warning("%s is damaged: an older checkpoint is used, if there is one", path)
        return None

    def prepare(self) -> None:
        """Make room for the next checkpoint; what a kill left unfinished goes.

        Raises:
            StorageError: The disk is full or failing.
        """
        shutil.rmtree(self.staging, ignore_errors=True)
        make_folder(self.staging)

    def publish(self, step: int, state: Mapping[str, Any]) -> None:
        """Let what was written to `staging` be the newest checkpoint, and drop the oldest.

        Raises:
            StorageError: The disk is full or failing.
        """
        name = f"{PREFIX}{step}"
        seal(self.staging / name, {"state": dict(state)})
        # The run went on from before this step: what was published from here on is damaged.
        for path in self._published():
            if _step_of(path) >= step:
                remove_folder(path)
        rename_folder(self.staging / name, self.folder / name)
        remove_folder(self.staging)
        for path in self._published()[: -self._limit]:
            remove_folder(path)

    def _published(self) -> list[Path]:
        """Folders of checkpoints, oldest first."""
        return sorted(filter(_is_published, self.folder.glob(f"{PREFIX}*")), key=_step_of)


def seal(folder: Path, entry: Mapping[str, Any]) -> None:
    """Bring a folder's files to the disk, and write down their sizes."""
    sync_files(folder)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in files}
    with durable_file(folder / STATE_NAME) as file:
        file.write(json.dumps({**entry, "sizes": sizes}).encode())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what Python, torch and safetensors raise on a full disk into a StorageError."""
    try:
        with storage_errors(path):
            yield
    except (SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and _TORCH_WRITER not in str(error):
            raise
        raise StorageError(
            f"cannot write {path}, {free_bytes(path)} bytes are free: free some space and run the "
            f"same command again, it goes on from the last checkpoint ({error})"
        ) from error


def _is_published(path: Path) -> bool:
    """Whether a folder has the name of a checkpoint, a number behind the prefix."""
    return path.name.removeprefix(PREFIX).isdigit()


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix(PREFIX))


def _read_state(path: Path) -> dict[str, Any] | None:
    """What `seal` wrote, if all files still have their sizes."""
    try:
        found = json.loads((path / STATE_NAME).read_text(encoding="utf-8"))
        whole = all((path / name).stat().st_size == size for name, size in found["sizes"].items())
    except (OSError, ValueError):
        return None
    return found if whole else None
