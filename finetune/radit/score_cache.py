"""What an LM said about pairs of example and passage, kept so that nothing is asked twice.

A folder holds shards, which are written once and never changed, and a manifest with one line for
each. A shard counts once its line is on the disk: a kill loses the open shard and nothing else. It
is named by its content, so that the caches of several machines merge by copying what is new. What
is stored is the log-likelihood itself, so that score kind, temperature and direction of the
divergence are chosen afterwards.
"""

import io
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from ragkit.errors import ConfigError, DataError
from ragkit.index.journal import Journal
from ragkit.storage import durable_file, make_folder, storage_errors

ROW = np.dtype(
    [
        ("key", "S16"),  # of example and passage, from `pair_key`
        ("row", "<i8"),  # the passage, in the generation of the index that was searched
        ("sum_logprob", "<f4"),
        ("num_tokens", "<i2"),
        ("retriever_score", "<f4"),
    ]
)
"""One scored pair, 34 bytes."""
SHARD_ROWS, SHARD_S = 65_536, 60.0
"""A shard is closed when it has so many rows, or has been open for so long."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScorerId:
    """Hashes of what scores depend on besides the pair.

    Args:
        model: Of weights, dtypes and configuration, wherever the model was loaded from.
        tokenizer: Of the vocabulary.
        template: Of the text around the parts of a prompt.
    """

    model: str
    tokenizer: str
    template: str


class ScoreCache:
    """The scores of one LM, tokenizer and template; a context manager, for what is appended.

    Args:
        folder: Made with the first shard. Shards of other scorers stay, and are not read.
        shard_rows: Rows of a full shard.
        shard_s: Seconds after which a shard is closed, however few rows it has.

    Raises:
        ConfigError: `shard_rows` is below 1.
        DataError: A shard is damaged.
    """

    def __init__(
        self,
        folder: Path,
        scorer: ScorerId,
        *,
        shard_rows: int = SHARD_ROWS,
        shard_s: float = SHARD_S,
    ) -> None:
        if shard_rows < 1:
            raise ConfigError(f"shard_rows must be 1 or more, got {shard_rows}")
        self.folder, self.scorer = folder, scorer
        self._shard_rows, self._shard_s = shard_rows, shard_s
        own = [line for line in _lines(folder) if line["scorer"] == asdict(scorer)]
        self._rows = _by_key([_read_shard(folder, line) for line in own])
        self._open: list[NDArray[np.void]] = []
        self._opened_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # What was scored before an error is as good as any.
        self.flush()

    def __len__(self) -> int:
        """Pairs on the disk."""
        return len(self._rows)

    def find(self, keys: NDArray[np.bytes_]) -> tuple[NDArray[np.bool_], NDArray[np.void]]:
        """Which of `keys` `[pairs]` are there, and the rows of those, in order, `[found]`."""
        known = self._rows["key"]
        places = np.searchsorted(known, keys)
        found = np.zeros(len(keys), np.bool_)
        within = places < len(known)
        found[within] = known[places[within]] == keys[within]
        return found, self._rows[places[found]]

    def append(self, rows: NDArray[np.void]) -> None:
        """Add rows of the type `ROW`, which are found once their shard is closed.

        Raises:
            StorageError: The disk is full or failing.
        """
        if not self._open:
            self._opened_at = time.monotonic()
        self._open.append(rows)
        full = sum(map(len, self._open)) >= self._shard_rows
        if full or time.monotonic() - self._opened_at >= self._shard_s:
            self.flush()

    def flush(self) -> None:
        """Close the open shard, if there is one.

        Raises:
            StorageError: The disk is full or failing.
        """
        if not self._open:
            return
        rows = np.concatenate(self._open)
        content = io.BytesIO()
        np.save(content, rows, allow_pickle=False)
        _write_shard(self.folder, content.getvalue(), len(rows), asdict(self.scorer))
        self._open = []
        self._rows = _by_key([self._rows, rows])


def pair_key(*parts: tuple[int, ...] | str) -> bytes:
    """What stands for a pair of example and passage: equal for equal parts.

    Args:
        parts: Whatever the score depends on that no `ScorerId` tells.
    """
    return xxhash.xxh3_128_digest(repr(parts).encode())


def merge_cache(target: Path, source: Path) -> int:
    """Copy the shards of the cache `source` that `target` lacks, of all scorers; how many.

    Raises:
        DataError: `source` is no cache, or a shard of it is damaged.
        StorageError: The disk is full or failing.
    """
    if not _manifest_path(source).is_file():
        raise DataError(
            f"{source} is no score cache: expected {_manifest_path(source).name} in it; give the "
            "folder that scores were written to"
        )
    present = {line["xxh3"] for line in _lines(target)}
    lacking = [line for line in _lines(source) if line["xxh3"] not in present]
    for line in lacking:
        _write_shard(target, _read_content(source, line), line["rows"], line["scorer"])
    return len(lacking)


def _manifest_path(folder: Path) -> Path:
    return folder / "manifest.jsonl"


def _shard_path(folder: Path, name: str) -> Path:
    return folder / "shards" / f"{name}.npy"


def _lines(folder: Path) -> Iterator[dict[str, Any]]:
    """The manifest, a line for each shard that is there."""
    lines = {line["xxh3"]: line for line in Journal(_manifest_path(folder)).read()}
    for name, line in lines.items():
        if _shard_path(folder, name).is_file():
            yield line
        else:
            logger.warning(
                "the shard %s is gone: its %d pairs are scored again",
                _shard_path(folder, name),
                line["rows"],
            )


def _write_shard(folder: Path, content: bytes, num_rows: int, scorer: dict[str, str]) -> None:
    name = xxhash.xxh3_128_hexdigest(content)
    path = _shard_path(folder, name)
    make_folder(path.parent)
    with durable_file(path) as file:
        file.write(content)
    Journal(_manifest_path(folder)).append({"xxh3": name, "rows": num_rows, "scorer": scorer})


def _read_content(folder: Path, line: dict[str, Any]) -> bytes:
    path = _shard_path(folder, line["xxh3"])
    with storage_errors(path, action="read"):
        content = path.read_bytes()
    if xxhash.xxh3_128_hexdigest(content) != line["xxh3"]:
        raise DataError(
            f"the shard {path} is damaged: its content has another hash than its name; delete it, "
            "and its pairs are scored again"
        )
    return content


def _read_shard(folder: Path, line: dict[str, Any]) -> NDArray[np.void]:
    rows = np.load(io.BytesIO(_read_content(folder, line)), allow_pickle=False)
    if rows.dtype != ROW:
        raise DataError(
            f"the shard {_shard_path(folder, line['xxh3'])} has columns {rows.dtype}, expected "
            f"{ROW}: score into another folder"
        )
    return rows


def _by_key(parts: list[NDArray[np.void]]) -> NDArray[np.void]:
    """The rows of all parts, sorted, one for each key."""
    rows = np.concatenate([np.empty(0, ROW), *parts])
    _, first = np.unique(rows["key"], return_index=True)
    return rows[first]
