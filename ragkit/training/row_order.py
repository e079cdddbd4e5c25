"""Which row is read when: a function of the seed alone, so that a run can go on anywhere."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


class RowOrder(Sampler[int]):
    """Rows of epoch after epoch, from any place on.

    An update reads the next rows of the order, whatever its batch size, accumulation and number of
    processes; where an epoch ends within an update, the rest comes from the next.

    Args:
        num_rows: Rows of the dataset.
        num_reads: Rows that the whole run reads.
        first_read: Reads that are done already.
        seed: Of the order of each epoch; `None` keeps that of the dataset.
    """

    def __init__(
        self, num_rows: int, *, num_reads: int, first_read: int = 0, seed: int | None
    ) -> None:
        self._num_rows, self._num_reads = num_rows, num_reads
        self._first_read, self._seed = first_read, seed

    def __len__(self) -> int:
        """Reads that are left."""
        return self._num_reads - self._first_read

    def __iter__(self) -> Iterator[int]:
        """The rows that are left to read, in order."""
        epoch, place = divmod(self._first_read, self._num_rows)
        left = len(self)
        while left > 0:
            rows = self._rows_of(epoch)[place : place + left]
            yield from rows.tolist()
            left -= len(rows)
            epoch, place = epoch + 1, 0

    def _rows_of(self, epoch: int) -> NDArray[np.int64]:
        if self._seed is None:
            return np.arange(self._num_rows)
        return np.random.default_rng((self._seed, epoch)).permutation(self._num_rows)
