"""Keeps out of training what gives the answer away.

Two kinds of leaks: training questions that are test questions, and passages that hold the target
of a self-supervised record because the record was cut from them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ragkit.errors import ConfigError
from ragkit.evaluation.qa.normalize import normalize_answer
from ragkit.finetune.radit.records import InstructionRecord
from ragkit.retrieval.hits import Hit
from ragkit.retrieval.retriever import Retriever

NUM_SHOWN = 10

_CHUNK = re.compile(r"(#\d+)+$")


@dataclass(frozen=True, slots=True)
class Overlap:
    """A training record whose query shares words with a test question.

    Args:
        shared: The words they have in common, normalised.
    """

    record_id: str
    test_query: str
    shared: str


@dataclass(frozen=True, slots=True)
class LeakReport:
    """How much of a training set stands in a test set.

    Args:
        num_equal: Records whose query is a test question, up to case, punctuation and articles.
        num_overlapping: Other records that share a run of words with one.
        num_dropped: Records that were left out.
        examples: The first overlapping ones.
    """

    num_records: int
    num_equal: int
    num_overlapping: int
    num_dropped: int
    examples: tuple[Overlap, ...]


def drop_leaks(
    records: Sequence[InstructionRecord],
    test_queries: Sequence[str],
    *,
    num_words: int = 8,
    drop_overlapping: bool = False,
) -> tuple[list[InstructionRecord], LeakReport]:
    """The records that do not ask a test question, and what was found.

    Args:
        num_words: Length of a run of words that counts as overlap.
        drop_overlapping: Leave out those that only share a run of words, too.

    Raises:
        ConfigError: `num_words` is below 1.
    """
    if num_words < 1:
        raise ConfigError(f"num_words must be 1 or more, got {num_words}: 8 is usual")
    asked = {normalize_answer(query): query for query in test_queries}
    runs = {run: query for words, query in asked.items() for run in _runs(words, num_words)}
    kept: list[InstructionRecord] = []
    overlaps: list[Overlap] = []
    num_equal = 0
    for record in records:
        words = normalize_answer(record.query)
        if words and words in asked:
            num_equal += 1
            continue
        shared = next((run for run in _runs(words, num_words) if run in runs), None)
        if shared is not None:
            overlaps.append(Overlap(record.id, runs[shared], shared))
        if shared is None or not drop_overlapping:
            kept.append(record)
    num_dropped = len(records) - len(kept)
    shown = tuple(overlaps[:NUM_SHOWN])
    return kept, LeakReport(len(records), num_equal, len(overlaps), num_dropped, shown)


def _runs(words: str, length: int) -> Iterator[str]:
    parts = words.split()
    return (" ".join(parts[i : i + length]) for i in range(len(parts) - length + 1))


def source_of(doc_id: str) -> str:
    """The document that a passage or document id belongs to: `Oslo` for `Oslo#3` and `Oslo#3#0`.

    Records of a table are documents of their own, but are often pieces of one that was cut before;
    those that were too long for the encoder were cut once more.
    """
    return _CHUNK.sub("", doc_id)


class SourceFilter:
    """Tells which hits a record must not see, because it was cut from them or from beside them.

    For a record with `doc_id` these are all passages of the same source, those next to it in the
    index, since corpora whose ids tell nothing are kept in reading order, and any passage that
    holds the target word for word. Records without `doc_id` may see everything.

    Args:
        num_neighbours: Rows on either side of the record's own.
    """

    def __init__(
        self,
        retriever: Retriever,
        records: Sequence[InstructionRecord],
        *,
        num_neighbours: int = 1,
    ) -> None:
        if num_neighbours < 0:
            raise ConfigError(f"num_neighbours must be 0 or more, got {num_neighbours}")
        self._num_neighbours = num_neighbours
        ids = sorted({record.doc_id for record in records if record.doc_id is not None})
        found = zip(ids, retriever.rows(ids).tolist(), strict=True)
        self._rows = {name: row for name, row in found if row >= 0}

    def forbids(self, record: InstructionRecord, hit: Hit) -> bool:
        """Whether `hit` would give the record's target away."""
        if record.doc_id is None:
            return False
        row = self._rows.get(record.doc_id)
        return (
            (row is not None and abs(hit.row - row) <= self._num_neighbours)
            or source_of(hit.doc_id) == source_of(record.doc_id)
            or (record.task == "corpus" and record.answers[0] in hit.text)
        )
