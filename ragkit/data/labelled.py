"""Prompts with their targets, packed into rows of which only the targets are learnt.

Whole instances are packed by best fit (Ding et al. 2024, arXiv:2404.10830, section 3), none is cut.
Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from operator import index

import numpy as np
import xxhash
from numpy.typing import NDArray

from ragkit.data.packing import PackingPlan, PackingReport, pack_documents
from ragkit.errors import DataError

Instance = tuple[Sequence[int], Sequence[int]]
"""Token ids of a prompt, which may be empty, and of its target."""


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """One row, not padded.

    Args:
        input_ids: The instances, one after the other, each its prompt and then its target,
            `[tokens]`.
        is_target: Whether a token is to be predicted, `[tokens]`.
        instance_lengths: Tokens of each instance, `[instances]`; the sum is `tokens`.
    """

    input_ids: NDArray[np.int64]
    is_target: NDArray[np.bool_]
    instance_lengths: NDArray[np.int64]


class LabelledDataset:
    """Rows of instances, map-style.

    A prompt is no target, nor is the first token of an instance, before which nothing stands.

    Args:
        input_ids: Tokens of all instances, one instance after the other, `[tokens]`.
        is_target: Whether each is to be predicted, `[tokens]`.
        plan: Which instances each row holds, none of them cut.
    """

    def __init__(
        self, input_ids: NDArray[np.int32], is_target: NDArray[np.bool_], plan: PackingPlan
    ) -> None:
        self._input_ids, self._is_target, self._plan = input_ids, is_target, plan

    @classmethod
    def pack(
        cls, instances: Sequence[Instance], *, context_length: int, seed: int | None = None
    ) -> "LabelledDataset":
        """As few rows of at most `context_length` tokens as best fit makes of `instances`.

        Args:
            seed: Shuffles the finished rows; `None` leaves them in the order of their first
                instance.

        Raises:
            DataError: There are no instances, or one has no target or more than `context_length`
                tokens.
        """
        input_ids, is_target, offsets = _join(instances, context_length)
        plan = pack_documents(offsets, context_length=context_length, seed=seed)
        return cls(input_ids, is_target, plan)

    @classmethod
    def separate(cls, instances: Sequence[Instance], *, context_length: int) -> "LabelledDataset":
        """Rows of one instance each, for models that cannot keep the instances of a row apart.

        Raises:
            DataError: As for `pack`.
        """
        input_ids, is_target, offsets = _join(instances, context_length)
        lengths, num_rows = np.diff(offsets), len(instances)
        report = PackingReport(
            num_rows=num_rows,
            num_tokens=len(input_ids),
            num_documents=num_rows,
            truncated_documents=0,
            padding_share=1 - len(input_ids) / (num_rows * int(lengths.max())),
        )
        plan = PackingPlan(
            int(lengths.max()), offsets[:-1], lengths, np.arange(num_rows + 1), report
        )
        return cls(input_ids, is_target, plan)

    @property
    def report(self) -> PackingReport:
        """Rows and padding; the documents are the instances, none of which is truncated."""
        return self._plan.report

    @property
    def num_targets(self) -> int:
        """Tokens to be predicted, of all rows."""
        return int(self._is_target.sum())

    @property
    def content_hash(self) -> str:
        """xxh3-128 of the tokens, of what is a target and of the rows, in hex."""
        digest = xxhash.xxh3_128()
        for array in (self._input_ids, self._is_target, self._plan.starts, self._plan.row_offsets):
            digest.update(array.tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._plan)

    def __getitem__(self, row: int) -> LabelledRow:
        """The row at a place from 0 to `len - 1`, or counted from the end.

        Raises:
            IndexError: There is no such row.
        """
        place = range(len(self))[index(row)]
        first, last = self._plan.row_offsets[place : place + 2]
        starts, lengths = self._plan.starts[first:last], self._plan.lengths[first:last]
        # Token t of the row lies behind the start of its instance as far as in the row.
        shifts = starts - (np.cumsum(lengths) - lengths)
        tokens = np.arange(lengths.sum()) + np.repeat(shifts, lengths)
        input_ids = self._input_ids[tokens].astype(np.int64)
        return LabelledRow(input_ids, self._is_target[tokens], lengths)


def _join(
    instances: Sequence[Instance], context_length: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_], NDArray[np.int64]]:
    """Tokens `[tokens]`, which are targets `[tokens]`, and the offsets `[instances + 1]`."""
    if not instances:
        raise DataError("there are no instances to train on: give at least one")
    parts = np.array([(len(prompt), len(target)) for prompt, target in instances], np.int64)
    lengths = parts.sum(axis=1)
    _require_targets(parts)
    _require_fitting(lengths, context_length)
    joined = chain.from_iterable(chain(prompt, target) for prompt, target in instances)
    input_ids = np.fromiter(joined, np.int32, count=int(lengths.sum()))
    is_target = np.repeat(np.tile([False, True], len(parts)), parts.flatten())
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    is_target[offsets[:-1]] = False
    return input_ids, is_target, offsets


def _require_targets(parts: NDArray[np.int64]) -> None:
    """Refuse instances without a target that stands behind another token.

    Args:
        parts: Tokens of prompt and target, `[instances, 2]`.
    """
    bare = np.flatnonzero((parts[:, 1] == 0) | (parts.sum(axis=1) < 2))
    if len(bare):
        prompt, target = parts[bare[0]]
        raise DataError(
            f"an instance must have a target and a token before its end, but instance {bare[0]} "
            f"has {prompt} prompt and {target} target tokens ({len(bare)} such): drop them"
        )


def _require_fitting(lengths: NDArray[np.int64], context_length: int) -> None:
    long = np.flatnonzero(lengths > context_length)
    if len(long):
        raise DataError(
            f"instance {long[0]} has {lengths[long[0]]} tokens, but a row takes {context_length} "
            f"({len(long)} such): build prompts with a max_length of at most that, or raise "
            "context_length"
        )
