"""How likely the LM finds each target behind each passage: the costly stage of retriever tuning.

Passages stand before questions, so that what the LM reads of a passage serves all questions that
found it (Lin et al. 2023, arXiv:2310.01352, section 2.3, asks for one score for each pair).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ragkit.console import progress
from ragkit.decoding.continuation_scores import TargetPair, TargetScorer
from ragkit.errors import DataError
from ragkit.finetune.radit.instances import ScoringPair
from ragkit.finetune.radit.score_cache import ROW, ScoreCache, pair_key

PAIRS_PER_SORT = 8192
"""Pairs whose rows are sorted by length together."""
MAX_TARGET_TOKENS = int(np.iinfo(ROW["num_tokens"]).max)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScoredCandidates:
    """The scores of each record's candidates, in their order; k is the most that any record has.

    Args:
        rows: Of the index, `[records, k]`; -1 for none.
        sum_logprob: Of the target in nats, `[records, k]`; -inf for none, and not finite where the
            LM's logits are not.
        num_tokens: Of the target, `[records, k]`; 0 for none.
        retriever_scores: `[records, k]`; -inf for none.
        num_scored: Pairs that the LM was asked about; all others were in the cache.
    """

    record_ids: list[str]
    rows: NDArray[np.int64]
    sum_logprob: NDArray[np.float32]
    num_tokens: NDArray[np.int64]
    retriever_scores: NDArray[np.float32]
    num_scored: int


def score_pairs(
    model: PreTrainedModel,
    pairs: Sequence[ScoringPair],
    *,
    cache: ScoreCache,
    batch_tokens: int | None = None,
) -> ScoredCandidates:
    """The LM's score of each pair; only pairs that `cache` lacks are scored.

    Args:
        pairs: Those of one record follow one another.
        cache: Of this model; it takes the new scores as they come, so that a kill loses few.
        batch_tokens: Most tokens of a forward pass; `None` for what suits the device.

    Raises:
        ConfigError: `batch_tokens` is below 1.
        DataError: A target has more tokens than the cache counts, or a pair more than the model
            reads.
        StorageError: The disk is full or failing, or the device runs out of memory.
    """
    keys = np.array([_key(pair) for pair in pairs], ROW["key"])
    found, _ = cache.find(keys)
    _, first = np.unique(keys, return_index=True)  # equal pairs are scored once
    missing = first[~found[first]]
    if len(missing):
        _score_missing(model, pairs, keys, missing, cache=cache, batch_tokens=batch_tokens)
    _, rows = cache.find(keys)
    if strange := int((~np.isfinite(rows["sum_logprob"])).sum()):
        logger.warning("%d of %d scores are not finite, and will not count", strange, len(rows))
    return _tabulate(pairs, rows, num_scored=len(missing))


def _score_missing(
    model: PreTrainedModel,
    pairs: Sequence[ScoringPair],
    keys: NDArray[np.bytes_],
    missing: NDArray[np.int64],
    *,
    cache: ScoreCache,
    batch_tokens: int | None,
) -> None:
    _check_targets([pairs[i] for i in missing])
    scorer = TargetScorer(model, batch_tokens=batch_tokens)
    order = _passage_by_passage(pairs, missing.tolist())
    with cache, progress("score pairs", total=len(order)) as bar:
        for start in range(0, len(order), PAIRS_PER_SORT):
            part = np.array(order[start : start + PAIRS_PER_SORT])
            for numbers, sums in scorer.batches([_target_pair(pairs[i]) for i in part]):
                chosen = part[numbers]
                cache.append(_cache_rows([pairs[i] for i in chosen], keys[chosen], sums))
                bar.advance(len(chosen))


def _check_targets(pairs: Sequence[ScoringPair]) -> None:
    for pair in pairs:
        if len(pair.target) > MAX_TARGET_TOKENS:
            raise DataError(
                f"the target of {pair.record_id!r} has {len(pair.target)} tokens, a score cache "
                f"counts up to {MAX_TARGET_TOKENS}: leave the record out"
            )


def _key(pair: ScoringPair) -> bytes:
    # The tokens, so that whatever changes what the LM reads changes the key.
    prompt = pair.prompt
    return pair_key(pair.record_id, prompt.prefix, prompt.background, prompt.question, pair.target)


def _target_pair(pair: ScoringPair) -> TargetPair:
    prompt = pair.prompt
    return TargetPair(prompt.prefix + prompt.background, prompt.question, pair.target)


def _passage_by_passage(pairs: Sequence[ScoringPair], numbers: Sequence[int]) -> list[int]:
    """The numbers, those of equal passages together."""
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
    for number in numbers:
        prompt = pairs[number].prompt
        groups.setdefault((prompt.prefix, prompt.background), []).append(number)
    return [number for group in groups.values() for number in group]


def _cache_rows(
    pairs: Sequence[ScoringPair], keys: NDArray[np.bytes_], sums: NDArray[np.float32]
) -> NDArray[np.void]:
    rows = np.empty(len(pairs), ROW)
    rows["key"], rows["sum_logprob"] = keys, sums
    rows["row"] = [pair.row for pair in pairs]
    rows["num_tokens"] = [len(pair.target) for pair in pairs]
    rows["retriever_score"] = [pair.score for pair in pairs]
    return rows


def _tabulate(
    pairs: Sequence[ScoringPair], scored: NDArray[np.void], *, num_scored: int
) -> ScoredCandidates:
    record_ids = list(dict.fromkeys(pair.record_id for pair in pairs))
    lines = {name: line for line, name in enumerate(record_ids)}
    at = np.array([lines[pair.record_id] for pair in pairs], np.int64)  # [pairs]
    counts = np.bincount(at, minlength=len(lines))
    place = np.arange(len(pairs)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = len(lines), int(counts.max(initial=0))
    table = ScoredCandidates(
        record_ids,
        np.full(shape, -1, np.int64),
        np.full(shape, -np.inf, np.float32),
        np.zeros(shape, np.int64),
        np.full(shape, -np.inf, np.float32),
        num_scored,
    )
    # Row and retriever score are those of now: the cache may know the pair from another index.
    table.rows[at, place] = [pair.row for pair in pairs]
    table.sum_logprob[at, place] = scored["sum_logprob"]
    table.num_tokens[at, place] = scored["num_tokens"]
    table.retriever_scores[at, place] = [pair.score for pair in pairs]
    return table
