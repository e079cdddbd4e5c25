"""Files of JSON lines that grow with a run and are cut back to its last checkpoint."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ragkit.storage import durable_file, storage_errors


class MetricsFile:
    """One JSON object a line, each with its `step`, in ascending order.

    Args:
        path: The file; made by the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line; a reader sees it at once.

        Raises:
            StorageError: The disk is full or failing.
        """
        with storage_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """All lines up to the first that a kill tore."""
        if not self.path.exists():
            return []
        found = []
        for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                found.append(json.loads(text))
            except json.JSONDecodeError:
                break
        return found

    def cut(self, step: int) -> None:
        """Drop what was written after a step.

        Raises:
            StorageError: The disk is full or failing.
        """
        kept = [line for line in self.lines() if line["step"] <= step]
        with durable_file(self.path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in kept).encode())

    def sync(self) -> None:
        """Bring all lines to the disk.

        Raises:
            StorageError: The disk is full or failing.
        """
        with storage_errors(self.path):
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CREAT)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
