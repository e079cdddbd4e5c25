"""Packed rows, read from a token store as they are asked for. Imports no torch."""

from dataclasses import dataclass
from operator import index

import numpy as np
from numpy.typing import NDArray

from ragkit.data.packing import PackingMode, PackingPlan, PackingReport, pack_documents
from ragkit.data.token_store import TokenStore


@dataclass(frozen=True, slots=True)
class PackedRow:
    """One row of a packed dataset, not padded.

    Args:
        input_ids: The documents, or pieces of documents, one after the other, `[tokens]`.
        document_lengths: Tokens of each of them, `[docs]`; the sum is `tokens`.
        num_padding: Positions that are left to the length that all rows share.
    """

    input_ids: NDArray[np.int64]
    document_lengths: NDArray[np.int64]
    num_padding: int


class PackedDataset:
    """Rows of one length over the documents of a token store, map-style.

    Nothing but the plan is held in memory; a pickled copy, as a data loader's worker gets, maps the
    store's files again.

    Args:
        store: Where the tokens lie.
        plan: Made from `store.offsets`.
    """

    def __init__(self, store: TokenStore, plan: PackingPlan) -> None:
        self._store, self._plan = store, plan

    @classmethod
    def pack(
        cls,
        store: TokenStore,
        *,
        context_length: int,
        mode: PackingMode = "bestfit",
        documents: NDArray[np.int64] | None = None,
        seed: int | None = None,
    ) -> "PackedDataset":
        """The documents of `store`, packed as `pack_documents` does with these arguments.

        Raises:
            ConfigError: An argument makes no sense, or the documents have no token.
        """
        plan = pack_documents(
            store.offsets, context_length=context_length, mode=mode, documents=documents, seed=seed
        )
        return cls(store, plan)

    @property
    def report(self) -> PackingReport:
        """Rows, padding and truncated documents."""
        return self._plan.report

    @property
    def context_length(self) -> int:
        """Positions of a row, padding included."""
        return self._plan.context_length

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._plan)

    def __getitem__(self, row: int) -> PackedRow:
        """The row at a place from 0 to `len - 1`, or counted from the end.

        Raises:
            IndexError: There is no such row.
        """
        place = range(len(self))[index(row)]
        first, last = self._plan.row_offsets[place : place + 2]
        lengths = self._plan.lengths[first:last]
        spans = zip(self._plan.starts[first:last].tolist(), lengths.tolist(), strict=True)
        tokens = self._store.tokens
        pieces = [tokens[start : start + length] for start, length in spans]
        ids = np.concatenate(pieces, dtype=np.int64)
        return PackedRow(ids, lengths, self.context_length - len(ids))
