"""The same tower on several devices, each taking work as it gets free."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from ragkit.encoders.base import Tokens
from ragkit.encoders.batching import Rows, cut_lengths, take_tokens
from ragkit.encoders.tower import Tower

SHARES_PER_TOWER = 8


class Replicas:
    """Several towers with equal weights behind the face of one.

    One thread per tower is enough: a tower spends its time in kernels, which run without the
    interpreter's lock.

    Args:
        towers: At least one; each on a device of its own.
    """

    def __init__(self, towers: Sequence[Tower]) -> None:
        self._towers = towers

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self._towers[0].dim

    @property
    def normalized(self) -> bool:
        """Whether every vector has length 1."""
        return self._towers[0].normalized

    def embed(self, tokens: Tokens) -> NDArray[np.float32]:
        """One vector per text, `[texts, dim]`, in order; an error of any tower is raised."""
        vectors = np.empty((len(tokens), self.dim), np.float32)
        queue: SimpleQueue[Rows] = SimpleQueue()
        # Texts of similar length stay together, so that a share pads as little as the whole.
        longest_first = np.argsort(-cut_lengths(tokens), kind="stable")
        for share in np.array_split(longest_first, SHARES_PER_TOWER * len(self._towers)):
            queue.put(share)

        def work(tower: Tower) -> None:
            while True:
                try:
                    rows = queue.get_nowait()
                except Empty:
                    return
                vectors[rows] = tower.embed(take_tokens(tokens, rows))

        with ThreadPoolExecutor(len(self._towers)) as pool:
            for done in [pool.submit(work, tower) for tower in self._towers]:
                done.result()
        return vectors
