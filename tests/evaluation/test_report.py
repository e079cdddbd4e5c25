import json

import pytest
from rich.console import Console

from ragkit.evaluation.report import to_json, to_table
from ragkit.evaluation.retrieval import RetrievalReport

SCORES = {"ndcg@10": 0.39151, "recall@10": 0.5, "recall@100": 0.75, "mrr@10": 0.123456}


@pytest.fixture
def report():
    return RetrievalReport(SCORES, {f"q{i}": SCORES for i in range(225)}, {})


def test_json_has_the_keys_that_scripts_rely_on(report):
    read = json.loads(json.dumps(to_json(report)))

    assert list(read) == ["schema", "ndcg@10", "recall@10", "recall@100", "mrr@10", "queries"]
    assert {name: read[name] for name in SCORES} == SCORES
    assert read["queries"] == 225


def test_the_table_shows_every_metric_and_the_number_of_queries(report):
    console = Console(width=60, color_system=None)

    with console.capture() as capture:
        console.print(to_table(report, title="cranfield"))

    rows = [line.split() for line in capture.get().splitlines()]
    shown = {row[1]: row[3] for row in rows if len(row) == 5}
    assert shown["ndcg@10"] == "0.3915"
    assert shown["queries"] == "225"
    assert set(shown) >= set(SCORES)
    assert "cranfield" in capture.get()
