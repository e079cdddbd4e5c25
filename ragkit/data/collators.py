"""From packed or labelled rows to the tensors of a batch."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ragkit.data.labelled import LabelledRow
from ragkit.data.packed import PackedRow
from ragkit.nn.loss import IGNORED_LABEL

__all__ = ["IGNORED_LABEL", "LabelledCollator", "PackedCollator"]


class PackedCollator:
    """Pads packed rows and gives them labels, and positions where documents are masked.

    `labels[t]` equals `input_ids[t]`, or -100 where token `t` is no target: padding, the first
    token of a row (nothing stands before it) and, if documents are masked from one another, the
    first token of each. So `(labels != -100).sum()` is exactly the number of terms of the loss that
    shifts by one, as `num_items_in_batch` must be. A document's end-of-text token is a target.

    Args:
        pad_token_id: Fills rows up; the id does not matter, as nothing attends to it or predicts
            it.
        mask_documents: Gives `position_ids` that restart at 0 with each document (and with the
            padding), by which transformers keeps documents from attending to one another where
            it gets no `attention_mask`.
    """

    def __init__(self, *, pad_token_id: int, mask_documents: bool) -> None:
        self._pad_token_id, self._mask_documents = pad_token_id, mask_documents

    def __call__(self, rows: Sequence[PackedRow]) -> dict[str, Tensor]:
        """`input_ids`, `labels` and, with masked documents, `position_ids`: `[rows, seq]`."""
        parts = [self._collate(row) for row in rows]
        return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}

    def _collate(self, row: PackedRow) -> dict[str, Tensor]:
        """The tensors of one row, `[seq]`."""
        padding = torch.full((row.num_padding,), self._pad_token_id)
        ids = torch.cat([torch.from_numpy(row.input_ids), padding])
        lengths = torch.tensor([*row.document_lengths.tolist(), row.num_padding])
        starts = lengths.cumsum(0) - lengths  # [docs + 1], the padding last
        labels = ids.clone()
        labels[len(row.input_ids) :] = IGNORED_LABEL
        labels[starts[:-1] if self._mask_documents else 0] = IGNORED_LABEL
        if not self._mask_documents:
            return {"input_ids": ids, "labels": labels}
        return {"input_ids": ids, "labels": labels, "position_ids": _restart(lengths)}


class LabelledCollator:
    """Pads labelled rows to the longest of the batch and gives them labels and positions.

    `labels[t]` equals `input_ids[t]` where token `t` is a target, else -100: on prompts, on padding
    and on the first token of each instance.

    Args:
        pad_token_id: Fills rows up; the id does not matter.
        mask_documents: Keeps the instances of a row apart by `position_ids`, as `PackedCollator`
            does with documents; rows of one instance do without.
    """

    def __init__(self, *, pad_token_id: int, mask_documents: bool = True) -> None:
        self._pad_token_id, self._mask_documents = pad_token_id, mask_documents

    def __call__(self, rows: Sequence[LabelledRow]) -> dict[str, Tensor]:
        """`input_ids`, `labels` and, with masked documents, `position_ids`: `[rows, seq]`."""
        longest = max(len(row.input_ids) for row in rows)
        parts = [self._collate(row, longest - len(row.input_ids)) for row in rows]
        return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}

    def _collate(self, row: LabelledRow, num_padding: int) -> dict[str, Tensor]:
        """The tensors of one row, `[seq]`."""
        ids = F.pad(torch.from_numpy(row.input_ids), (0, num_padding), value=self._pad_token_id)
        is_target = F.pad(torch.from_numpy(row.is_target), (0, num_padding))
        labels = ids.masked_fill(~is_target, IGNORED_LABEL)
        if not self._mask_documents:
            return {"input_ids": ids, "labels": labels}
        lengths = torch.tensor([*row.instance_lengths.tolist(), num_padding])
        return {"input_ids": ids, "labels": labels, "position_ids": _restart(lengths)}


def _restart(lengths: Tensor) -> Tensor:
    """Positions `[tokens]` that count from 0 in each of some documents of these `lengths`."""
    starts = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum())) - starts.repeat_interleave(lengths)
