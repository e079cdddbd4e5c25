"""The scored rows of a round, by the record that each belongs to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ragkit.errors import DataError
from ragkit.finetune.radit.instances import ScoringPairs
from ragkit.finetune.radit.lsr import ScoreKind
from ragkit.finetune.radit.lsr_rows import LsrRows, make_rows
from ragkit.finetune.radit.lsr_scoring import ScoredCandidates
from ragkit.finetune.radit.mixture import MixturePart, mix
from ragkit.finetune.radit.records import InstructionRecord
from ragkit.finetune.radit.tasks import retrieval_query


@dataclass(frozen=True)
class ScoredRecords:
    """What the retriever can learn of each record.

    Args:
        rows: One line for each record that has one, in the order of `places`.
        places: The line of each record that was scored, by its id.
        num_pairs: Pairs of a record and a passage, those of held-out records too.
        left_out: Records that were not scored: `few` had fewer than two passages, `long` too long a
            target.
        cuts: How many prompts lost something, by what was cut.
    """

    rows: LsrRows
    places: Mapping[str, int]
    num_pairs: int
    left_out: Mapping[str, int]
    cuts: Counter[str]

    def lines(self, records: Sequence[InstructionRecord]) -> list[int]:
        """The places of those of these records that were scored."""
        return [self.places[record.id] for record in records if record.id in self.places]

    def of(self, records: Sequence[InstructionRecord]) -> LsrRows | None:
        """The lines of these records; `None` if none of them has one."""
        found = self.lines(records)
        return self.rows.take(np.array(found, np.int64)) if found else None


def gather_scored(
    records: Sequence[InstructionRecord],
    pairs: ScoringPairs,
    scored: ScoredCandidates,
    *,
    kind: ScoreKind,
    temperature: float,
) -> ScoredRecords:
    """The lines of all records that were scored.

    Raises:
        ConfigError, DataError: As for `make_rows`.
    """
    queries = {record.id: retrieval_query(record) or "" for record in records}
    rows = make_rows(
        [queries[name] for name in scored.record_ids],
        scored.rows,
        scored.sum_logprob,
        scored.num_tokens,
        kind=kind,
        temperature=temperature,
    )
    places = {name: place for place, name in enumerate(scored.record_ids)}
    left_out = {"few": pairs.num_few, "long": pairs.num_long}
    return ScoredRecords(rows, places, len(pairs), left_out, pairs.cuts)


def training_rows(
    scored: ScoredRecords,
    tasks: Sequence[InstructionRecord],
    corpus: Sequence[InstructionRecord],
    *,
    task_share: float | None,
    seed: int,
) -> LsrRows:
    """The lines to learn from: those of tasks and of the corpus, in their shares.

    Raises:
        ConfigError: The share does not fit.
        DataError: No record was scored.
    """
    lines = {"tasks": scored.lines(tasks), "corpus": scored.lines(corpus)}
    kept = {name: places for name, places in lines.items() if places}
    if not kept:
        raise DataError(
            "no example has two passages to choose between: retrieve more passages, or check that "
            "the index holds the corpus of these tasks"
        )
    shares = {"tasks": task_share} if len(kept) > 1 else {}
    parts = [MixturePart(name, places, shares.get(name)) for name, places in kept.items()]
    mixture = mix(parts, seed=seed, cap=None)
    return scored.rows.take(np.array(mixture.examples, np.int64))
