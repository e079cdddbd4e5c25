from collections import Counter

import numpy as np
import pytest

from ragkit.errors import ConfigError, DataError
from ragkit.finetune.radit.lsr_rows import make_rows
from ragkit.finetune.radit.records import InstructionRecord
from ragkit.finetune.radit.scored import ScoredRecords, training_rows

TASKS = [InstructionRecord(f"t{i}", "open_qa", f"t{i}", ("a",)) for i in range(30)]
CORPUS = [InstructionRecord(f"c{i}", "corpus", f"c{i}", ("a",)) for i in range(190)]


def scored(records, k=3):
    rng = np.random.default_rng(0)
    shape = (len(records), k)
    rows = make_rows(
        [record.query for record in records],
        rng.integers(0, 50, shape),
        -rng.gamma(2.0, 1.0, shape),
        np.full(shape, 4),
    )
    places = {record.id: place for place, record in enumerate(records)}
    return ScoredRecords(rows, places, len(records) * k, {}, Counter())


def test_tasks_and_corpus_are_mixed_by_their_shares():
    found = scored([*TASKS, *CORPUS])

    mixed = training_rows(found, TASKS, CORPUS, task_share=0.05, seed=3)

    from_tasks = [query for query in mixed.queries if query[0] == "t"]
    assert (len(mixed), len(from_tasks), len(set(mixed.queries))) == (200, 10, 200)
    for place, query in enumerate(mixed.queries):
        np.testing.assert_array_equal(mixed.rows[place], found.rows.rows[found.places[query]])


def test_without_a_share_every_line_is_taken_in_an_order_of_the_seed():
    found = scored([*TASKS, *CORPUS])

    one, same, other = (
        training_rows(found, TASKS, CORPUS, task_share=None, seed=seed).queries
        for seed in (3, 3, 4)
    )

    assert sorted(one) == sorted(found.rows.queries)
    assert one == same != other


def test_a_share_needs_both_sets():
    found = scored(TASKS)

    assert len(training_rows(found, TASKS, CORPUS, task_share=0.05, seed=0)) == len(TASKS)
    with pytest.raises(ConfigError, match="share"):
        training_rows(scored([*TASKS, *CORPUS]), TASKS, CORPUS, task_share=1.5, seed=0)


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(DataError, match="retrieve more passages"):
        training_rows(scored(TASKS), [], CORPUS, task_share=None, seed=0)
