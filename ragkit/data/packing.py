"""Documents packed into rows of one length: which tokens each row holds, and where they lie.

Two ways: plain concatenation, and best-fit packing (Ding et al. 2024, arXiv:2404.10830, section 3),
which cuts only what is longer than a row. Either way each token is in exactly one row.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ragkit.data.best_fit import best_fit_rows
from ragkit.errors import ConfigError

PackingMode = Literal["stream", "bestfit"]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class PackingReport:
    """What packing made of some documents.

    Args:
        num_documents: Documents with at least one token.
        truncated_documents: Those that do not lie whole within one row.
        padding_share: Padding among all positions of all rows.
    """

    num_rows: int
    num_tokens: int
    num_documents: int
    truncated_documents: int
    padding_share: float


@dataclass(frozen=True)
class PackingPlan:
    """Rows as runs of tokens: row `i` is made of the pieces `row_offsets[i]:row_offsets[i + 1]`.

    Args:
        context_length: Tokens of a full row.
        starts: Where each piece begins in the array of all tokens, `[pieces]`.
        lengths: Tokens of each piece, `[pieces]`.
        row_offsets: First piece of each row, and the number of pieces, `[rows + 1]`.
        report: Counts, for a log or a recipe's summary.
    """

    context_length: int
    starts: Integers
    lengths: Integers
    row_offsets: Integers
    report: PackingReport

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.row_offsets) - 1


@dataclass(frozen=True)
class _Pieces:
    """Cut documents, in document order: each array is `[pieces]`."""

    starts: Integers
    lengths: Integers
    documents: Integers


def pack_documents(
    offsets: Integers,
    *,
    context_length: int,
    mode: PackingMode = "bestfit",
    documents: Integers | None = None,
    seed: int | None = None,
) -> PackingPlan:
    """A plan that places each token of the documents once, in order within its document.

    A row keeps its pieces in document order; rows stand in the order of their first piece.

    Args:
        offsets: Document `i` has the tokens `offsets[i]:offsets[i + 1]`, `[docs + 1]`.
        mode: `stream` joins the documents and cuts every `context_length` tokens: all rows but the
            last are full. `bestfit` cuts only documents longer than a row and pads the rest.
        documents: Which documents to pack, and in which order; `None` packs all as they stand.
        seed: Shuffles the finished rows; `None` leaves their order.

    Raises:
        ConfigError: An argument makes no sense, or the documents have no token.
    """
    chosen = _choose(offsets, documents)
    if context_length < 2:
        raise ConfigError(
            f"context_length must be 2 or more, since a row's first token is no target, got "
            f"{context_length}: give the model's context"
        )
    if mode == "stream":
        pieces = _cut_stream(offsets, chosen, context_length)
        rows = (np.cumsum(pieces.lengths) - 1) // context_length
    elif mode == "bestfit":
        pieces = _cut_long(offsets, chosen, context_length)
        rows = best_fit_rows(pieces.lengths, context_length=context_length)
    else:
        raise ConfigError(f"mode must be stream or bestfit, got {mode!r}: choose one of them")
    return _arrange(pieces, _renumber(rows, seed=seed), context_length)


def _choose(offsets: Integers, documents: Integers | None) -> Integers:
    """The documents to pack, in order; those without tokens are left out."""
    num_documents = len(offsets) - 1
    chosen = np.arange(num_documents) if documents is None else np.asarray(documents, np.int64)
    if len(chosen) and (chosen.min() < 0 or chosen.max() >= num_documents):
        raise ConfigError(
            f"documents must lie in 0..{num_documents - 1}, got {chosen.min()}..{chosen.max()}: "
            "give an order of the documents of this store"
        )
    chosen = chosen[offsets[chosen + 1] > offsets[chosen]]
    if not len(chosen):
        raise ConfigError("there is no token to pack: give documents that are not empty")
    return chosen


def _cut_stream(offsets: Integers, chosen: Integers, context_length: int) -> _Pieces:
    """Pieces of the joined documents, cut where a document or a row ends."""
    ends = np.cumsum(offsets[chosen + 1] - offsets[chosen])  # in the joined stream
    row_ends = np.arange(context_length, ends[-1], context_length)
    # A stable sort merges two sorted runs in linear time, as np.union1d does not.
    cuts = np.sort(np.concatenate([ends, row_ends]), kind="stable")
    cuts = cuts[np.diff(cuts, prepend=0) > 0]
    begins = np.concatenate([[0], cuts[:-1]])
    places = np.searchsorted(ends, begins, side="right")
    documents = chosen[places]
    starts = offsets[documents + 1] - (ends[places] - begins)
    return _Pieces(starts, cuts - begins, places)


def _cut_long(offsets: Integers, chosen: Integers, context_length: int) -> _Pieces:
    """Pieces of `context_length` tokens and the remainder of each document."""
    sizes = offsets[chosen + 1] - offsets[chosen]
    counts = -(-sizes // context_length)
    places = np.repeat(np.arange(len(chosen)), counts)
    numbers = np.arange(len(places)) - (np.cumsum(counts) - counts)[places]  # within the document
    passed = numbers * context_length
    lengths = np.minimum(sizes[places] - passed, context_length)
    return _Pieces(offsets[chosen][places] + passed, lengths, places)


def _renumber(rows: Integers, *, seed: int | None) -> Integers:
    """The row of each piece, `[pieces]`, counted by first piece, or shuffled by a seed."""
    _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    if seed is not None:
        rank = np.random.default_rng(seed).permutation(len(first))[rank]
    return rank[inverse]


def _arrange(pieces: _Pieces, rows: Integers, context_length: int) -> PackingPlan:
    """The plan in which each piece lies in its row."""
    order = np.argsort(rows, kind="stable")
    num_rows = int(rows.max()) + 1
    row_offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=num_rows))])
    num_tokens = int(pieces.lengths.sum())
    counts = np.bincount(pieces.documents)
    report = PackingReport(
        num_rows=num_rows,
        num_tokens=num_tokens,
        num_documents=len(counts),
        truncated_documents=int((counts > 1).sum()),
        padding_share=1 - num_tokens / (num_rows * context_length),
    )
    starts, lengths = pieces.starts[order], pieces.lengths[order]
    return PackingPlan(context_length, starts, lengths, row_offsets, report)
