"""The rows of the input that were refused or altered, each with its position and the reason."""

import json
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TextIO

from ragkit.errors import ConfigError, DataError, StorageError

Action = Literal["refused", "altered"]

ASKED_FOR = frozenset({"empty", "duplicate", "duplicate_text", "invalid_utf8"})
"""Codes that only a policy such as `on_empty="skip"` refuses: they never fail a run."""

NUM_SHOWN = 5


class Rejects:
    """Counts refused and altered rows and writes each as one line of JSON.

    Args:
        path: The file to write, made when the first line comes; `None` only counts.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self.refused = 0
        self._faults: list[str] = []
        self._num_faults = 0
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def refuse(self, source: str, reason: str, *, code: str) -> None:
        """Note that the row at `source` is left out."""
        self.refused += 1
        if code not in ASKED_FOR:
            self._num_faults += 1
            if len(self._faults) < NUM_SHOWN:
                self._faults.append(f"{source}: {reason}")
        self._note(source, reason, code, "refused")

    def alter(self, source: str, reason: str, *, code: str) -> None:
        """Note that the row at `source` is taken, but not as it stands in the input."""
        self._note(source, reason, code, "altered")

    def check(self, rows_read: int, limit: str | int) -> None:
        """Pass if few enough rows were refused.

        Args:
            rows_read: All rows of the input, the refused ones included.
            limit: A number of rows, or a share of `rows_read` such as `1%`.

        Raises:
            ConfigError: `limit` is neither.
            DataError: More rows were refused; those that a policy asked to skip do not count.
        """
        if self._num_faults <= _allowed(rows_read, limit):
            return
        self._flush()
        listed = "\n".join(f"  {fault}" for fault in self._faults)
        where = f"all of them: {self.path}" if self.path else "give a rejects file to see all"
        raise DataError(
            f"{self._num_faults} of {rows_read} rows were refused, at most {limit} may be:\n"
            f"{listed}\n{where}; mend the input or raise --max-rejects"
        )

    def close(self) -> None:
        """Finish the file; more rows may follow."""
        try:
            if self._file:
                self._file.close()
        except OSError as error:
            raise self._storage_error(error) from error

    def discard(self) -> None:
        """Finish, and remove the file: nothing came of what was read."""
        self.close()
        if self.path:
            self.path.unlink(missing_ok=True)

    def _note(self, source: str, reason: str, code: str, action: Action) -> None:
        self.counts[code] += 1
        if self.path is None:
            return
        line = {"source": source, "reason": reason, "code": code, "action": action}
        try:
            if self._file is None or self._file.closed:
                self._file = self._open(self.path)
            self._file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise self._storage_error(error) from error

    def _open(self, path: Path) -> TextIO:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w" if self._file is None else "a", encoding="utf-8")

    def _flush(self) -> None:
        try:
            if self._file and not self._file.closed:
                self._file.flush()
        except OSError as error:
            raise self._storage_error(error) from error

    def _storage_error(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self.path}: the refused rows could not be written ({error.strerror}): "
            "free space or choose another place, then run again"
        )


def _allowed(rows_read: int, limit: str | int) -> int:
    """Number of rows that `limit` lets pass."""
    text = str(limit).strip()
    try:
        share = text.endswith("%")
        allowed = float(text[:-1]) / 100 * rows_read if share else float(int(text))
    except ValueError as error:
        raise ConfigError(f"max_rejects must be like 1% or 20, got {limit!r}") from error
    if not 0 <= allowed < float("inf"):
        raise ConfigError(f"max_rejects must be 0 or more, got {limit!r}: write 1% or 20")
    return int(allowed)
