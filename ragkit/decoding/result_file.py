"""Results in a file, one JSON object a line, which a later run goes on with."""

import fcntl
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import xxhash

from ragkit.config import adapter
from ragkit.decoding.batching import Generation, Request
from ragkit.decoding.options import GenerationOptions
from ragkit.errors import ConfigError, StorageError
from ragkit.storage import storage_errors


def fingerprint(request: Request, *, model: str, options: GenerationOptions) -> str:
    """What a result depends on, as 16 hexadecimal digits: equal for equal results.

    Args:
        model: Stands for the weights and how they are loaded.
    """
    settings = adapter(GenerationOptions).dump_python(options, mode="json")
    content = [model, settings, request.sample, request.tokens]
    return xxhash.xxh3_64_hexdigest(json.dumps(content).encode())


def line_head(*, number: str | int, fingerprint: str) -> str:
    """The beginning of a result's line, which tells it from all other lines."""
    return json.dumps({"id": number, "fingerprint": fingerprint})[:-1] + ", "


def to_line(generation: Generation, *, head: str) -> str:
    """The result as a line of JSON, in ASCII, that begins with `head`."""
    facts = {
        "text": generation.text,
        "finish_reason": generation.finish_reason,
        "num_prompt_tokens": generation.num_prompt_tokens,
        "num_tokens": generation.num_tokens,
    }
    return head + json.dumps(facts)[1:] + "\n"


class ResultFile:
    """The results of a file of prompts, in their order; a context manager.

    Args:
        path: Made if it is not there; what it holds is kept.

    Raises:
        StorageError: It cannot be written, or another process is writing to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with storage_errors(path):
            self._file = path.open("a+b")
        try:
            self._lock()
        except StorageError:
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

    def resume(self, heads: Sequence[str]) -> int:
        """How many results are there already; the beginning of one more is cut off.

        Args:
            heads: As `line_head` makes them, of all results that belong in the file.

        Raises:
            ConfigError: The file holds something else.
            StorageError: It cannot be read or cut.
        """
        with storage_errors(self.path):
            num_done, end = 0, 0
            self._file.seek(0)
            for line in self._file:
                head = heads[num_done].encode() if num_done < len(heads) else None
                # The head holds the fingerprint: what differs from it is not ours to cut.
                if head is None or not (line.startswith(head) or head.startswith(line)):
                    raise self._foreign(num_done + 1)
                if not line.endswith(b"\n"):
                    self._file.truncate(end)
                    break
                num_done, end = num_done + 1, end + len(line)
            return num_done

    def append(self, line: str) -> None:
        """Write one more result, at once.

        Raises:
            StorageError: The disk is full, or fails.
        """
        with storage_errors(self.path):
            self._file.write(line.encode())
            self._file.flush()

    def _lock(self) -> None:
        with storage_errors(self.path, action="lock"):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StorageError(
                    f"another process is writing to {self.path}: wait for it, or choose another "
                    "file"
                ) from error

    def _foreign(self, number: int) -> ConfigError:
        return ConfigError(
            f"{self.path}:{number} is no result of this prompt, model and options: write to "
            "another file, or remove this one to start over"
        )
