"""Results in a file, one JSON object a line, which a later run goes on with."""

import fcntl
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import xxhash

from ragkit.config import adapter
from ragkit.decoding.generator import Generation, Request
from ragkit.decoding.options import GenerationOptions
from ragkit.errors import ConfigError, RagkitError, StorageError

_BEGINNING = b'{"id": '


def fingerprint(request: Request, *, model: str, options: GenerationOptions) -> str:
    """What a result depends on, as 16 hexadecimal digits: equal for equal results."""
    settings = adapter(GenerationOptions).dump_python(options, mode="json")
    content = [model, settings, request.sample, request.tokens]
    return xxhash.xxh3_64_hexdigest(json.dumps(content).encode())


def to_line(generation: Generation, *, number: str | int, fingerprint: str) -> str:
    """The result as a line of JSON, in ASCII."""
    row = {
        "id": number,
        "text": generation.text,
        "finish_reason": generation.finish_reason,
        "num_prompt_tokens": generation.num_prompt_tokens,
        "num_tokens": generation.num_tokens,
        "fingerprint": fingerprint,
    }
    return json.dumps(row) + "\n"


class ResultFile:
    """The results of a file of prompts, in their order; a context manager.

    Args:
        path: Made if it is not there; what it holds is kept.
        fingerprints: Of all results that belong in it.

    Raises:
        ConfigError: It holds something else.
        StorageError: It cannot be written, or another process is writing to it.
    """

    def __init__(self, path: Path, *, fingerprints: Sequence[str]) -> None:
        self._path = path
        try:
            self._file = path.open("a+b")
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._lock()
            self.num_done = self._repair(fingerprints)
            """How many results were there already."""
        except RagkitError:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def append(self, line: str) -> None:
        """Write one more result, at once.

        Raises:
            StorageError: The disk is full, or fails.
        """
        try:
            self._file.write(line.encode())
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(
                f"another process is writing to {self._path}: wait for it, or choose another file"
            ) from error

    def _repair(self, fingerprints: Sequence[str]) -> int:
        """Number of complete results; the beginning of one more is cut off."""
        num_done, end = 0, 0
        self._file.seek(0)
        for line in self._file:
            torn = not line.endswith(b"\n")
            if torn and _BEGINNING.startswith(line[: len(_BEGINNING)]):
                self._file.truncate(end)
                break
            if num_done >= len(fingerprints) or _mark(line) != fingerprints[num_done]:
                raise ConfigError(
                    f"{self._path}:{num_done + 1} is no result of this prompt, model and options: "
                    "write to another file, or remove this one to start over"
                )
            num_done, end = num_done + 1, end + len(line)
        return num_done

    def _unwritable(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self._path} cannot be written ({error.strerror}): free space, or choose another "
            "file; results that are in it are kept, and the next run goes on from there"
        )


def _mark(line: bytes) -> str | None:
    """The fingerprint in a line, if it is a result."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row.get("fingerprint") if isinstance(row, dict) else None
