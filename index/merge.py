"""Best hits of several searches over disjoint rows."""

from collections.abc import Sequence

import numpy as np

from ragkit.index.exact import Found


def merge_hits(found: Sequence[Found], *, k: int) -> Found:
    """The `k` best of all, best first; equal scores in the order of the rows, row -1 last."""
    if len(found) == 1:
        scores, rows = found[0]
        return scores[:, :k], rows[:, :k]
    scores = np.concatenate([part[0] for part in found], axis=1)  # [queries, all hits]
    rows = np.concatenate([part[1] for part in found], axis=1)
    scores = np.where(rows >= 0, scores, -np.inf)
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
