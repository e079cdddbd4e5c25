"""The journal of a build: one line per finished part, so that a killed build goes on."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ragkit.storage import storage_errors, sync_folder


class Journal:
    """Append-only lines of JSON; a line counts once it is on the disk.

    Args:
        path: Created with the first line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[dict[str, Any]]:
        """All whole lines; one that a kill tore is ignored."""
        if not self._path.is_file():
            return []
        lines = self._path.read_bytes().split(b"\n")
        return [line for line in map(_parse, lines) if line is not None]

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line and wait until it is on the disk.

        Raises:
            StorageError: The disk is full or failing.
        """
        with storage_errors(self._path):
            with self._path.open("ab+") as file:
                # The line break in front ends a torn line, which must not swallow this one.
                file.write(b"\n" + json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self._path.parent)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None
