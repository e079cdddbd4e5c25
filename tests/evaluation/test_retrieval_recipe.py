import json

import pytest

from ragkit.config import load_config
from ragkit.errors import DataError
from ragkit.evaluation.retrieval_recipe import RetrievalRecipe, run_retrieval

TEXTS = ["a red fox", "two green owls", "the blue whale", "seven grey wolves", "one white hare"]


@pytest.fixture
def recipe(tmp_path):
    """A collection in which each query is the text of its one relevant document."""
    records = [{"_id": f"d{i}", "text": text} for i, text in enumerate(TEXTS)]
    queries = [{"_id": f"q{i}", "text": text} for i, text in enumerate(TEXTS[:3])]
    for name, rows in (("corpus.jsonl", records), ("queries.jsonl", queries)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "qrels.tsv").write_text("q0\td0\t1\nq1\td1\t1\nq2\td2\t1\n")
    path = tmp_path / "own.yaml"
    path.write_text(
        "kind: retrieval\ninputs: [corpus.jsonl]\nqueries: queries.jsonl\nqrels: qrels.tsv\n"
        f"data_dir: {tmp_path}\nout: {tmp_path / 'own.index'}\nbuild: {{encoder: 'hash:64'}}\n"
    )
    return path


def test_a_recipe_builds_the_index_and_measures_it(recipe, tmp_path):
    report = run_retrieval(load_config(RetrievalRecipe, recipe))

    assert len(report.per_query) == 3
    assert report.scores["ndcg@10"] == 1
    assert (tmp_path / "own.index").is_dir()


def test_a_second_run_measures_the_same_index(recipe, tmp_path):
    first = run_retrieval(load_config(RetrievalRecipe, recipe))
    current = (tmp_path / "own.index" / "CURRENT").read_bytes()

    second = run_retrieval(load_config(RetrievalRecipe, recipe))

    assert second.rankings == first.rankings
    assert (tmp_path / "own.index" / "CURRENT").read_bytes() == current


def test_data_dir_may_come_from_the_environment(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("RAGKIT_DATA", str(tmp_path))

    report = run_retrieval(load_config(RetrievalRecipe, recipe, ["data_dir=''"]))

    assert report.scores["mrr@10"] == 1


def test_missing_data_is_named_before_anything_is_built(recipe, tmp_path):
    chosen = load_config(RetrievalRecipe, recipe, [f"data_dir={tmp_path / 'absent'}"])

    with pytest.raises(DataError, match=r"absent/queries\.jsonl cannot be read"):
        run_retrieval(chosen)
    assert not (tmp_path / "own.index").exists()
