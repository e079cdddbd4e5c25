"""Runs a transformer and its head over batches of tokens, on one device.

Matrix products and attention run in the device's fast number format, the rest in fp32. A text
whose vector is not finite or has no length is run again, alone and in fp32.
"""

import logging
from collections import deque
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ragkit.console import progress
from ragkit.encoders.base import Tokens
from ragkit.encoders.batching import Rows, cut_lengths, pad_batch, plan_batches
from ragkit.encoders.head import Head
from ragkit.encoders.precision import Precision, compute_in, store_linears
from ragkit.errors import StorageError

logger = logging.getLogger(__name__)

MANY_BATCHES = 32
"""From here on a bar is worth drawing."""


class Tower:
    """A backbone and a head on one device.

    Args:
        load_backbone: Gives the fp32 backbone on the CPU; called once more for a text that
            `precision` cannot hold.
        pad_id: Token that fills a batch.
        batch_tokens: Most tokens of a batch, padding included; halved for good when the device
            runs out of memory.
    """

    def __init__(
        self,
        load_backbone: Callable[[], nn.Module],
        head: Head,
        *,
        device: torch.device,
        precision: Precision,
        pad_id: int,
        batch_tokens: int,
    ) -> None:
        self._load_backbone = load_backbone
        self.head = head.to(device).eval()
        self._device, self._pad_id = device, pad_id
        self.batch_tokens, self.precision = batch_tokens, precision
        self._backbone = load_backbone().to(device)
        store_linears(self._backbone, precision)

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self.head.dim

    @property
    def normalized(self) -> bool:
        """Whether every vector has length 1."""
        return self.head.normalize

    @torch.inference_mode()
    def embed(self, tokens: Tokens) -> NDArray[np.float32]:
        """One vector per text, `[texts, dim]`, in order; NaN where even fp32 gives none.

        Raises:
            StorageError: One text alone is too long for the device's memory.
        """
        lengths = cut_lengths(tokens)
        vectors = np.full((len(tokens), self.dim), np.nan, np.float32)
        rows: Rows = np.arange(len(tokens))
        pending = deque(plan_batches(rows, lengths, batch_tokens=self.batch_tokens))
        with progress("batch", total=len(tokens), shown=len(pending) > MANY_BATCHES) as bar:
            while pending:
                rows = pending.popleft()
                try:
                    vectors[rows] = self._run(self._backbone, self.precision, tokens, rows)
                    bar.advance(len(rows))
                except torch.OutOfMemoryError as error:
                    self._halve_budget(lengths[rows], error)
                    left = np.concatenate([rows, *pending])
                    pending = deque(plan_batches(left, lengths, batch_tokens=self.batch_tokens))
        self._repair(vectors, tokens)
        return vectors

    def _run(
        self, backbone: nn.Module, precision: Precision, tokens: Tokens, rows: Rows
    ) -> NDArray[np.float32]:
        padded, real = pad_batch(tokens, rows, pad_id=self._pad_id)
        ids = torch.from_numpy(padded).to(self._device)  # [batch, seq]
        mask = torch.from_numpy(real).to(self._device)  # [batch, seq]
        # Attention is faster without a mask, and sorted batches mostly need none.
        with compute_in(precision, self._device):
            states = backbone(input_ids=ids, attention_mask=None if real.all() else mask.long())[0]
        return self.head(states, mask).cpu().numpy()

    def _halve_budget(self, lengths: NDArray[np.int64], error: Exception) -> None:
        padded = len(lengths) * int(lengths.max())
        if len(lengths) == 1:
            raise StorageError(
                f"{self._device} has too little memory for one text of {padded} tokens: "
                "lower max_length or use another device"
            ) from error
        self.batch_tokens = padded // 2
        logger.warning(
            "%s is out of memory at %d tokens: batches now hold %d",
            self._device,
            padded,
            self.batch_tokens,
        )
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _repair(self, vectors: NDArray[np.float32], tokens: Tokens) -> None:
        """Run the texts without a usable vector again; those that still have none get NaN."""
        broken = _broken_rows(vectors)
        broken = broken[cut_lengths(tokens)[broken] > 0]
        if not len(broken):
            return
        logger.warning("%d texts have no finite vector: running them in fp32", len(broken))
        backbone = self._backbone
        if self.precision != "fp32":
            backbone = self._load_backbone().to(self._device)
        for row in broken:
            vectors[row] = self._run(backbone, "fp32", tokens, np.array([row]))[0]
        vectors[_broken_rows(vectors)] = np.nan


def _broken_rows(vectors: NDArray[np.float32]) -> Rows:
    with np.errstate(invalid="ignore", over="ignore"):
        norms = np.linalg.norm(vectors, axis=1)
    return np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
