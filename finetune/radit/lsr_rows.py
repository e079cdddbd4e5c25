"""What a retriever is tuned on: queries, passages, and how much each passage is to count."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from ragkit.errors import DataError, ShapeError
from ragkit.finetune.radit.lsr import MIN_PASSAGES, ScoreKind, lm_scores, target_log_probs


class LsrRow(NamedTuple):
    """One query, the passages that were scored for it, and how much each is to count.

    Args:
        rows: Of the index, `[k]`; -1 for none.
        log_targets: `[k]`, -inf for none.
        lm_scores: `[k]`, -inf for none.
    """

    query: str
    rows: NDArray[np.int64]
    log_targets: NDArray[np.float32]
    lm_scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LsrRows:
    """Queries with the passages that an LM scored for them; map-style, an item is an `LsrRow`.

    Args:
        rows: Of the generation of the index that was searched, `[queries, k]`; -1 for none.
        log_targets: As `target_log_probs` gives them, `[queries, k]`; -inf for none.
        lm_scores: As `lm_scores` gives them, `[queries, k]`; -inf for none.

    Raises:
        ShapeError: The parts differ in size.
        DataError: An empty slot has a target.
    """

    queries: Sequence[str]
    rows: NDArray[np.int64]
    log_targets: NDArray[np.float32]
    lm_scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        shapes = {part.shape for part in self.arrays}
        if len(shapes) != 1 or self.rows.ndim != 2 or len(self.rows) != len(self.queries):
            raise ShapeError(
                f"rows, log_targets and lm_scores must be [{len(self.queries)}, k], a line for "
                f"each query, got {sorted(shapes)}: take all from the same scores"
            )
        if (np.isfinite(self.log_targets) & (self.rows < 0)).any():
            raise DataError(
                "a passage has a target but no row of the index: give -inf where the row is -1"
            )

    @property
    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """All but the queries, `[queries, k]` each."""
        return self.rows, self.log_targets, self.lm_scores

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, place: int) -> LsrRow:
        rows, log_targets, scores = (part[place] for part in self.arrays)
        return LsrRow(self.queries[place], rows, log_targets, scores)

    def take(self, places: NDArray[np.integer]) -> "LsrRows":
        """The lines at `places`, in that order."""
        queries = [self.queries[place] for place in places.tolist()]
        rows, log_targets, scores = (part[places] for part in self.arrays)
        return LsrRows(queries, rows, log_targets, scores)

    def teaching(self) -> "LsrRows":
        """The lines with at least two passages: the others leave nothing to choose."""
        counts = np.isfinite(self.log_targets).sum(axis=1)
        return self.take(np.flatnonzero(counts >= MIN_PASSAGES))

    def fingerprint(self) -> str:
        """A hash of all that is in the lines."""
        digest = xxhash.xxh3_128()
        for query in self.queries:
            digest.update(f"{len(query)} {query}".encode("utf-8", "replace"))
        for part in self.arrays:
            digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()


def make_rows(
    queries: Sequence[str],
    rows: NDArray[np.int64],
    sum_logprob: NDArray[np.floating],
    num_tokens: NDArray[np.integer],
    *,
    kind: ScoreKind = "geo_prob",
    temperature: float = 0.01,
) -> LsrRows:
    """What the LM's scores teach about each query; the rest as for `target_log_probs`.

    Args:
        rows: `[queries, k]`; -1 for none.

    Raises:
        ConfigError, DataError: As for `target_log_probs`.
        ShapeError: The parts differ in size.
    """
    targets = target_log_probs(sum_logprob, num_tokens, kind=kind, temperature=temperature)
    scores = lm_scores(sum_logprob, num_tokens, kind=kind)
    return LsrRows(queries, rows, targets, scores.astype(np.float32))
