"""Best-fit decreasing bin packing (Ding et al. 2024, arXiv:2404.10830, section 3).

Where the paper walks a segment tree once per piece, pieces of one length are placed together here:
they differ in nothing that packing looks at, so a group of rows with equal room takes as many of
them as fit in one step.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray


def best_fit_rows(lengths: NDArray[np.int64], *, context_length: int) -> NDArray[np.int64]:
    """The row of each piece, `[pieces]`: rows are counted from 0 in the order they are opened.

    Longest pieces go first, equal ones in the order given. Each goes into the row with the least
    room that still takes it; of rows with equal room, into the one that came to it first.

    Args:
        lengths: Tokens of each piece, `[pieces]`, from 1 to `context_length`.
    """
    ordered = np.argsort(-lengths, kind="stable")
    values, counts = np.unique(lengths, return_counts=True)
    rows = _Rows(context_length)
    placed = [
        rows.place(int(length), int(count))
        for length, count in zip(values[::-1], counts[::-1], strict=True)
    ]
    result = np.empty(len(lengths), np.int64)
    result[ordered] = np.concatenate([np.empty(0, np.int64), *placed])
    return result


class _Rows:
    """Open rows, grouped by the room that is left in them."""

    def __init__(self, context_length: int) -> None:
        self._context_length, self._num_rows = context_length, 0
        self._groups: dict[int, deque[NDArray[np.int64]]] = {}
        # Bit r is set where some row has room for r tokens: finding the tightest is one shift.
        self._occupied = 0

    def place(self, length: int, count: int) -> NDArray[np.int64]:
        """The rows of `count` pieces of one length, `[count]`, in the order of the pieces."""
        placed = []
        while count:
            room = self._tightest(length)
            if room is None:
                room = self._context_length
                self._open(-(-count // (room // length)))
            # A row that took a piece is tighter than before: it takes the next ones too.
            fit = room // length
            rows = self._take(room, max(1, count // fit))
            taken = np.repeat(rows, min(fit, count))
            self._give(room - min(fit, count) * length, rows)
            placed.append(taken)
            count -= len(taken)
        return np.concatenate(placed)

    def _tightest(self, length: int) -> int | None:
        """The least room of any row that takes `length` tokens."""
        wide_enough = self._occupied >> length
        if not wide_enough:
            return None
        return length + (wide_enough & -wide_enough).bit_length() - 1

    def _open(self, count: int) -> None:
        self._give(self._context_length, np.arange(self._num_rows, self._num_rows + count))
        self._num_rows += count

    def _give(self, room: int, rows: NDArray[np.int64]) -> None:
        """Note that `rows` now have this much room; full rows are forgotten."""
        if room:
            self._groups.setdefault(room, deque()).append(rows)
            self._occupied |= 1 << room

    def _take(self, room: int, count: int) -> NDArray[np.int64]:
        """Remove and return the first rows with this much room, `count` of them at most."""
        group, taken = self._groups[room], []
        while group and count:
            first = group.popleft()
            if len(first) > count:
                group.appendleft(first[count:])
            taken.append(first[:count])
            count -= len(taken[-1])
        if not group:
            del self._groups[room]
            self._occupied ^= 1 << room
        return np.concatenate(taken)
