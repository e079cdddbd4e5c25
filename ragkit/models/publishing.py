"""Model folders that appear whole or not at all."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ragkit.errors import RagkitError, StorageError
from ragkit.models.checkpoint import first_line, quiet

PARTIAL = ".partial"


@contextmanager
def published(folder: Path, *, mend: str) -> Iterator[Path]:
    """A new folder beside `folder` that takes its place when the block ends without an error.

    What stood at `folder` before is removed then, and not earlier. A process that is killed leaves
    a hidden folder whose name ends in `.partial`.

    Args:
        mend: What to do where the disk gives out, for the message.

    Raises:
        StorageError: The disk is full, read-only or failing.
    """
    partial = _beside(folder)
    try:
        with storage_errors(folder, mend=mend):
            partial.mkdir(parents=True)
            yield partial
            _sync(partial)
            _replace(folder, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_partial(folder: Path) -> None:
    """Remove what killed processes left of `folder`; none may be writing it."""
    for left in folder.parent.glob(f".{folder.name}.*{PARTIAL}"):
        shutil.rmtree(left, ignore_errors=True)


def save_checkpoint(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> None:
    """Write model, settings of `generate` and tokenizer to `folder`, weights as safetensors."""
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@contextmanager
def storage_errors(path: Path, *, mend: str) -> Iterator[None]:
    """Turn what a disk raises within the block into a StorageError that names the path."""
    try:
        yield
    except RagkitError:
        raise
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write {path} ({first_line(error)}): {mend}") from error


def _beside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.{uuid.uuid4().hex}{PARTIAL}")


def _replace(folder: Path, new: Path) -> None:
    if folder.exists():
        old = _beside(folder)
        folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old)
    else:
        new.rename(folder)


def _sync(folder: Path) -> None:
    """Bring the files to the disk before the folder has its name."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
