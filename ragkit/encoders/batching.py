"""Batches of texts of similar length, filled to a budget of padded tokens."""

import numpy as np
from numpy.typing import NDArray

from ragkit.encoders.base import Tokens

Rows = NDArray[np.int64]
"""Positions of some texts within `Tokens`."""


def cut_lengths(tokens: Tokens) -> NDArray[np.int64]:
    """Tokens of each text that the model sees, `[texts]`."""
    return np.diff(tokens.offsets)


def plan_batches(rows: Rows, lengths: NDArray[np.int64], *, batch_tokens: int) -> list[Rows]:
    """`rows` in batches, longest texts first, so that a budget that is too large fails at once.

    Texts without tokens are left out; one longer than the budget is a batch alone.

    Args:
        rows: The texts to place.
        lengths: `[texts]` of all texts, which `rows` points into.
        batch_tokens: Most tokens of a batch, padding included.
    """
    rows = rows[lengths[rows] > 0]
    ordered = rows[np.argsort(-lengths[rows], kind="stable")]
    batches, start = [], 0
    while start < len(ordered):
        size = max(1, batch_tokens // int(lengths[ordered[start]]))
        batches.append(ordered[start : start + size])
        start += size
    return batches


def pad_batch(
    tokens: Tokens, rows: Rows, *, pad_id: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Token ids padded on the right and the mask of the real ones, both `[batch, seq]`."""
    lengths = cut_lengths(tokens)[rows]
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, np.int64)
    ids[mask] = _join(tokens, rows)
    return ids, mask


def take_tokens(tokens: Tokens, rows: Rows) -> Tokens:
    """The texts at `rows`, in that order."""
    offsets = np.concatenate([[0], np.cumsum(cut_lengths(tokens)[rows])])
    ids = _join(tokens, rows) if len(rows) else tokens.ids[:0]
    return Tokens(ids, offsets, tokens.lengths[rows])


def _join(tokens: Tokens, rows: Rows) -> NDArray[np.int32]:
    starts, stops = tokens.offsets[rows], tokens.offsets[rows + 1]
    spans = zip(starts.tolist(), stops.tolist(), strict=True)
    return np.concatenate([tokens.ids[start:stop] for start, stop in spans])
