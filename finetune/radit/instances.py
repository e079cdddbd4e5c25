"""What the LM is trained on and asked to score: prompts with targets, one for each passage.

A record that retrieves gives one instance for each of its best passages, all of equal weight, wrong
passages too, so that the LM learns when to rely on what it knows (Lin et al. 2023,
arXiv:2310.01352, section 2.3).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ragkit.errors import ConfigError
from ragkit.finetune.radit.candidates import Candidates
from ragkit.finetune.radit.record_prompts import RecordPrompter
from ragkit.finetune.radit.records import InstructionRecord
from ragkit.finetune.radit.task_rules import TASKS
from ragkit.index.reader import Index
from ragkit.rag.prompts import Ids, Prompt
from ragkit.rag.template import format_passage

BATCH_RECORDS = 1_024
"""Records whose passages are read together."""

NUM_PASSAGES = 3
"""Passages of a record for the LM, as in the paper."""


@dataclass(frozen=True, slots=True)
class Instances:
    """Training examples of the LM.

    Args:
        pairs: Token ids of prompt and target, in the order of the records.
        record_ids: The record of each.
        num_without_passage: Records that retrieve, but for which nothing was found.
        cuts: How many prompts and `targets` lost something, by what was cut.
    """

    pairs: list[tuple[Ids, Ids]]
    record_ids: list[str]
    num_without_passage: int
    cuts: Counter[str]

    def __len__(self) -> int:
        return len(self.pairs)


@dataclass(frozen=True, slots=True)
class ScoringPair:
    """A record beside one of its passages: how likely does the passage make the target?

    Args:
        row: Of the passage in the index.
        score: Of the retriever.
        target: Without EOS.
    """

    record_id: str
    row: int
    score: float
    prompt: Prompt
    target: Ids


@dataclass(frozen=True, slots=True)
class ScoringPairs:
    """All pairs of some records.

    Args:
        num_few: Records left out because fewer than two passages were found: there is nothing to
            prefer.
        num_long: Records left out because the target, which is never cut, leaves no room.
        cuts: How many prompts lost something, by what was cut.
    """

    pairs: list[ScoringPair]
    num_few: int
    num_long: int
    cuts: Counter[str]

    def __len__(self) -> int:
        return len(self.pairs)


def build_instances(
    records: Sequence[InstructionRecord],
    prompter: RecordPrompter,
    *,
    index: Index | None = None,
    candidates: Candidates | None = None,
    num_passages: int = NUM_PASSAGES,
) -> Instances:
    """The training examples of `records`, EOS at the end of each target.

    A target that leaves no room for a prompt loses its end, and then has no EOS.

    Args:
        index: Where the candidates are from; neither is needed if no record retrieves.

    Raises:
        ConfigError: A record that retrieves has no candidates, or they are of another index.
    """
    pairs: list[tuple[Ids, Ids]] = []
    record_ids: list[str] = []
    num_without_passage = num_cut = 0
    for record, passages in _with_passages(records, prompter, index, candidates, num_passages):
        target = prompter.target(record, eos=True)
        limit = prompter.max_target_length
        num_cut += len(target) > limit
        target = target[:limit]
        num_without_passage += TASKS[record.task].retrieves and not passages
        backgrounds: Sequence[str | None] = passages or [prompter.own_passage(record)]
        for passage in backgrounds:
            prompt = prompter.prompt(record, passage, reserve=len(target))
            pairs.append((prompt.tokens, target))
            record_ids.append(record.id)
    cuts = prompter.cuts
    cuts["targets"] = num_cut
    return Instances(pairs, record_ids, num_without_passage, +cuts)


def scoring_pairs(
    records: Sequence[InstructionRecord],
    prompter: RecordPrompter,
    *,
    index: Index,
    candidates: Candidates,
) -> ScoringPairs:
    """Each record that retrieves beside each of its candidates, in their order.

    Args:
        prompter: Without a seed, so that equal records have equal prompts.

    Raises:
        ConfigError: A record has no candidates, or they are of another index.
    """
    candidates.require_index(index)
    hits = {name: (rows, scores) for name, rows, scores in candidates.hits()}
    pairs: list[ScoringPair] = []
    num_few = num_long = 0
    searched = [record for record in records if TASKS[record.task].retrieves]
    for record, passages in _with_passages(searched, prompter, index, candidates, candidates.k):
        target = prompter.target(record, eos=False)
        few, long = len(passages) < 2, len(target) > prompter.max_target_length
        num_few, num_long = num_few + few, num_long + (long and not few)
        if few or long:
            continue
        for row, score, passage in zip(*hits[record.id], passages, strict=True):
            prompt = prompter.prompt(record, passage, reserve=len(target))
            pairs.append(ScoringPair(record.id, row, score, prompt, target))
    return ScoringPairs(pairs, num_few, num_long, prompter.cuts)


def _with_passages(
    records: Sequence[InstructionRecord],
    prompter: RecordPrompter,
    index: Index | None,
    candidates: Candidates | None,
    num_passages: int,
) -> Iterator[tuple[InstructionRecord, list[str]]]:
    """Each record with the best passages found for it, as they stand in a prompt."""
    rows = _rows(records, index, candidates, num_passages)
    for start in range(0, len(records), BATCH_RECORDS):
        batch = records[start : start + BATCH_RECORDS]
        wanted = sorted({row for record in batch for row in rows[record.id]})
        texts = {} if index is None else _passages(index, wanted, prompter)
        for record in batch:
            yield record, [texts[row] for row in rows[record.id]]


def _rows(
    records: Sequence[InstructionRecord],
    index: Index | None,
    candidates: Candidates | None,
    num_passages: int,
) -> dict[str, list[int]]:
    """Rows of the best candidates of each record; none for those that retrieve nothing."""
    if num_passages < 1:
        raise ConfigError(f"num_passages must be 1 or more, got {num_passages}: 3 is usual")
    if (index is None) != (candidates is None):
        raise ConfigError("candidates need the index they are of: give both or neither")
    if index is not None and candidates is not None:
        candidates.require_index(index)
    found = {} if candidates is None else {name: rows for name, rows, _ in candidates.hits()}
    missing = [r.id for r in records if TASKS[r.task].retrieves and r.id not in found]
    if missing:
        raise ConfigError(
            f"{len(missing)} records have no candidates, such as {missing[0]!r}: retrieve for all "
            "of them first"
        )
    return {r.id: found[r.id][:num_passages] if TASKS[r.task].retrieves else [] for r in records}


def _passages(index: Index, rows: Sequence[int], prompter: RecordPrompter) -> dict[int, str]:
    """The passages at `rows` as they stand in a prompt."""
    columns = (index.values("title", rows), index.values("text", rows))
    return {
        row: format_passage(title, text, template=prompter.template)
        for row, title, text in zip(rows, *columns, strict=True)
    }
