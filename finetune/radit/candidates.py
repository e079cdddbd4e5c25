"""Candidates: the passages that retrieval finds for each record, as a table on disk."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import ConfigError, DataError, ModelMismatchError
from ragkit.finetune.radit.candidate_files import Table, read_table, write_table
from ragkit.index.reader import Index
from ragkit.retrieval.canary import CAUSES


@dataclass(frozen=True, slots=True)
class CandidateCounts:
    """What happened to the hits of all records.

    Args:
        num_examples: Records that were searched for.
        num_empty: Those for which no passage is left.
        num_short: Those with at least one, but fewer than `k`.
        num_duplicates: Hits dropped because a better one has the same text.
        num_excluded: Hits dropped because the record was cut from them or from beside them.
    """

    num_examples: int = 0
    num_empty: int = 0
    num_short: int = 0
    num_duplicates: int = 0
    num_excluded: int = 0


@dataclass(frozen=True, slots=True)
class Candidates:
    """The best passages of each record, best first; equal scores in the order of passage ids.

    Args:
        example_ids: Ids of the records, each once.
        rows: Rows of the index, -1 for none, `[examples, k]`.
        scores: Of the retriever, -inf for none, `[examples, k]`.
        index_hash: The `content_hash` of the index.
        encoder: Description of the encoder that embedded the queries.
    """

    example_ids: list[str]
    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    index_hash: str
    encoder: Mapping[str, Any] = field(default_factory=dict)
    counts: CandidateCounts = CandidateCounts()

    def __len__(self) -> int:
        return len(self.example_ids)

    @property
    def k(self) -> int:
        """Places for each record."""
        return int(self.rows.shape[1])

    def hits(self) -> Iterator[tuple[str, list[int], list[float]]]:
        """Id, rows and scores of each record, without the empty places."""
        for name, rows, scores in zip(self.example_ids, self.rows, self.scores, strict=True):
            found = rows >= 0
            yield name, rows[found].tolist(), scores[found].tolist()

    def require_index(self, index: Index) -> None:
        """Pass if the rows are rows of `index`.

        Raises:
            ConfigError: It is another index.
        """
        if index.manifest.content_hash != self.index_hash:
            raise ConfigError(
                f"the candidates are of an index with the content hash {self.index_hash}, but "
                f"{index.path} has {index.manifest.content_hash}: open that index, or retrieve the "
                "candidates anew"
            )

    def save(self, path: Path, *, index: Index) -> None:
        """Write the table to the folder `path`, whole or not at all, in place of what stood there.

        Args:
            index: Where the rows are from.

        Raises:
            ConfigError: The candidates are of another index.
            StorageError: The disk is full or failing.
        """
        self.require_index(index)
        found = self.rows >= 0
        used = np.unique(self.rows[found])
        places = np.where(found, np.searchsorted(used, self.rows), -1)
        header = {
            "index_hash": self.index_hash,
            "encoder": dict(self.encoder),
            "counts": asdict(self.counts),
        }
        ids = index.values("id", used.tolist())
        write_table(path, Table(self.example_ids, ids, places, self.scores, header))

    @classmethod
    def load(
        cls, path: Path, *, index: Index, encoder: Mapping[str, Any] | None = None
    ) -> "Candidates":
        """The candidates in the folder `path`, with the rows that `index` has now.

        Args:
            encoder: Description of the encoder that must have embedded the queries; `None` takes
                any.

        Raises:
            ConfigError: There are none, or they are of another index.
            ModelMismatchError: Another encoder embedded the queries.
            DataError: The files are damaged.
        """
        table = read_table(path)
        header = table.header
        candidates = cls(
            table.example_ids,
            np.empty(table.places.shape, np.int64),
            table.scores,
            header["index_hash"],
            header["encoder"],
            CandidateCounts(**header["counts"]),
        )
        candidates.require_index(index)
        if encoder is not None:
            _require_encoder(path, candidates.encoder, encoder)
        rows = index.rows(table.passage_ids)
        if (rows < 0).any():
            raise DataError(f"{path} names passages that {index.path} lacks: retrieve them anew")
        # The place -1 reads the last row, which is the one that says none.
        candidates.rows[:] = np.append(rows, -1)[table.places]
        return candidates


def _require_encoder(path: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    causes = [
        meaning
        for name, meaning in {"name": "another name", **CAUSES}.items()
        if then.get(name) != now.get(name)
    ]
    # A model that was moved has another name, and the same weights.
    if causes and not (causes == ["another name"] and now.get("weights_sha256") is not None):
        raise ModelMismatchError(
            f"the candidates in {path} were retrieved by the encoder {then.get('name')!r}, the one "
            f"at hand is {now.get('name')!r} ({', '.join(causes)}): retrieve them anew"
        )
