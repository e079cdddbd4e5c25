"""Texts that begin alike, laid out as one row in which a model reads their beginning once.

A row holds a prefix and, one after the other, the branches that go on from it. A branch sees the
prefix and itself, and its positions go on from the prefix, so that it is read as if it stood alone
(a token tree: Miao et al. 2023, arXiv:2305.09781, section 4). Against a cache that is copied for
each branch this saves the copies, the padding, and a second pass.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_PREFIX, _PADDING = -1, -2
"""What stands for the number of a branch where there is none."""
_FILLED_SHARE = 7 / 8
"""Least share of a batch's width that a row fills."""


@dataclass(frozen=True, slots=True)
class TargetPair:
    """A text and what is to follow it, as token ids.

    Args:
        prefix: Read once for all pairs that have an equal one.
        suffix: The rest of what stands before the target.
        target: At least one token.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    target: tuple[int, ...]

    @property
    def branch(self) -> tuple[int, ...]:
        """What is read after the prefix: the last token is predicted, but not read."""
        return self.suffix + self.target[:-1]

    @property
    def num_read(self) -> int:
        """Tokens that are read."""
        return len(self.prefix) + len(self.suffix) + len(self.target) - 1


@dataclass(frozen=True, slots=True)
class Tree:
    """A prefix and the branches of one row.

    Args:
        pairs: Numbers of the pairs that the branches belong to.
        num_tokens: Length of the row.
    """

    prefix: tuple[int, ...]
    pairs: tuple[int, ...]
    num_tokens: int


@dataclass(frozen=True, slots=True)
class TreeBatch:
    """Rows of one forward pass, padded on the right, where causal attention does not look.

    Args:
        input_ids: `[rows, seq]`, as are the next two.
        position_ids: Of each token in its own text.
        branches: The branch of each token within its row; negative for prefix and padding.
        places: Row and position that predict each token of a target, `[2, targets]`.
        targets: The predicted tokens, `[targets]`.
        owners: Number of the pair that each predicted token belongs to, `[targets]`.
    """

    input_ids: Tensor
    position_ids: Tensor
    branches: Tensor
    places: Tensor
    targets: Tensor
    owners: Tensor

    def attention_mask(self, dtype: torch.dtype, device: torch.device) -> Tensor | None:
        """What is added to the scores, `[rows, 1, seq, seq]`; `None` for plain causal attention."""
        if int(self.branches.max()) < 1:
            return None
        branches = self.branches.to(device)
        readers, read = branches[:, :, None], branches[:, None, :]
        visible = ((read == _PREFIX) | (read == readers)).tril()  # [rows, seq, seq]
        # The form that every implementation takes that takes a mask of its own at all.
        mask = torch.zeros(visible.shape, dtype=dtype, device=device)
        return mask.masked_fill_(~visible, torch.finfo(dtype).min)[:, None]


def plan_trees(pairs: Sequence[TargetPair], *, longest: Callable[[int], int]) -> list[Tree]:
    """Trees that hold each pair once; those of one prefix follow one another.

    Args:
        longest: Most tokens of a row, by the length of its prefix; a single pair may have more.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, pair in enumerate(pairs):
        groups.setdefault(pair.prefix, []).append(number)
    return [
        tree
        for prefix, numbers in groups.items()
        for tree in _split(pairs, prefix, numbers, most=longest(len(prefix)))
    ]


def batch_trees(trees: Sequence[Tree], *, batch_tokens: int) -> Iterator[list[Tree]]:
    """The trees in batches of at most `batch_tokens`, padding included; a larger one comes alone.

    Longest first. Rows share a batch if they are of similar length, so that little of it is
    padding, and of a kind: without a mask, which single branches do not need, attention is faster.
    """
    batch: list[Tree] = []
    for tree in sorted(trees, key=lambda tree: (len(tree.pairs) == 1, -tree.num_tokens)):
        if batch and not _fits(tree, batch, batch_tokens):
            yield batch
            batch = []
        batch.append(tree)
    if batch:
        yield batch


def lay_out(trees: Sequence[Tree], pairs: Sequence[TargetPair]) -> TreeBatch:
    """The batch of `trees`, on the CPU."""
    rows = [_Row(tree, pairs) for tree in trees]
    width = max(len(row.input_ids) for row in rows)
    places = [(i, place) for i, row in enumerate(rows) for place in row.places]
    return TreeBatch(
        # Padding stays unread, so that any token and position would do.
        input_ids=_pad([row.input_ids for row in rows], width, padding=0),
        position_ids=_pad([row.position_ids for row in rows], width, padding=0),
        branches=_pad([row.branches for row in rows], width, padding=_PADDING),
        places=torch.tensor(places).T,
        targets=torch.tensor([token for row in rows for token in row.targets]),
        owners=torch.tensor([owner for row in rows for owner in row.owners]),
    )


class _Row:
    """The tokens of one tree, and where its targets are predicted."""

    def __init__(self, tree: Tree, pairs: Sequence[TargetPair]) -> None:
        self.input_ids = list(tree.prefix)
        self.position_ids = list(range(len(tree.prefix)))
        self.branches = [_PREFIX] * len(tree.prefix)
        self.places: list[int] = []
        self.targets: list[int] = []
        self.owners: list[int] = []
        for branch, number in enumerate(tree.pairs):
            self._add(pairs[number], prefix=len(tree.prefix), branch=branch)
            self.owners += [number] * len(pairs[number].target)

    def _add(self, pair: TargetPair, *, prefix: int, branch: int) -> None:
        start = len(self.input_ids)
        self.input_ids += pair.branch
        stop = len(self.input_ids)
        self.position_ids += range(prefix, prefix + stop - start)
        self.branches += [branch] * (stop - start)
        after = start + len(pair.suffix)
        # Without a suffix the end of the prefix predicts the first token.
        self.places += [after - 1 if pair.suffix else prefix - 1, *range(after, stop)]
        self.targets += pair.target


def _split(
    pairs: Sequence[TargetPair], prefix: tuple[int, ...], numbers: Sequence[int], *, most: int
) -> Iterator[Tree]:
    """Trees of pairs that have one prefix, each as full as `most` tokens allow."""
    chosen: list[int] = []
    num_tokens = len(prefix)
    for number in numbers:
        size = pairs[number].num_read - len(prefix)
        if chosen and num_tokens + size > most:
            yield Tree(prefix, tuple(chosen), num_tokens)
            chosen, num_tokens = [], len(prefix)
        chosen.append(number)
        num_tokens += size
    yield Tree(prefix, tuple(chosen), num_tokens)


def _fits(tree: Tree, batch: Sequence[Tree], batch_tokens: int) -> bool:
    first = batch[0]
    return (
        (len(batch) + 1) * first.num_tokens <= batch_tokens
        and tree.num_tokens >= _FILLED_SHARE * first.num_tokens
        and (len(tree.pairs) == 1) == (len(first.pairs) == 1)
    )


def _pad(rows: Sequence[list[int]], width: int, *, padding: int) -> Tensor:
    """The rows as one tensor, `[rows, width]`."""
    return torch.tensor([row + [padding] * (width - len(row)) for row in rows])
