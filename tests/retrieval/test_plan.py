from pathlib import Path

import pytest

from ragkit.errors import DataError
from ragkit.retrieval.build import build_index
from ragkit.retrieval.options import BuildOptions
from ragkit.retrieval.plan import plan_build
from tests.retrieval.conftest import write_jsonl


@pytest.fixture
def long_corpus(tmp_path):
    """700 records of 60 words."""
    rows = [{"id": str(i), "title": "T", "text": f"word{i} " * 60} for i in range(700)]
    return write_jsonl(tmp_path / "c.jsonl", rows)


def test_a_plan_is_near_to_what_the_build_takes(long_corpus, tmp_path):
    options = BuildOptions(encoder="hash:64")

    plan = plan_build([str(long_corpus)], tmp_path / "i", options)

    report = build_index(long_corpus, tmp_path / "i", encoder="hash:64").as_dict()
    assert (plan.documents, plan.passages) == (700, 700)
    assert plan.tokens == report["counts"]["tokens"]
    assert plan.ann == report["ann"] == "exact"
    # The manifest and the canary are not planned for.
    assert plan.disk_bytes == pytest.approx(report["size_bytes"], rel=0.1)
    assert not (tmp_path / "i").with_name("j").exists()


def test_a_plan_counts_the_passages_of_a_cut_corpus(long_corpus, tmp_path):
    plan = plan_build(
        [str(long_corpus)], tmp_path / "i", BuildOptions(encoder="hash:64", chunk="words:20")
    )

    assert plan.passages == 3 * 700


def test_a_plan_writes_nothing(long_corpus, tmp_path):
    before = sorted(Path(tmp_path).rglob("*"))

    plan_build([str(long_corpus)], tmp_path / "i", BuildOptions(encoder="hash:64"))

    assert sorted(Path(tmp_path).rglob("*")) == before


def test_a_plan_of_nothing_is_refused(tmp_path):
    empty = write_jsonl(tmp_path / "c.jsonl", [])

    with pytest.raises(DataError, match="no documents"):
        plan_build([str(empty)], tmp_path / "i", BuildOptions(encoder="hash:64"))


def test_a_named_index_type_is_planned_for(long_corpus, tmp_path):
    plan = plan_build(
        [str(long_corpus)], tmp_path / "i", BuildOptions(encoder="hash:64", ann="IVF16,PQ8")
    )

    assert (plan.ann, plan.ann_reason) == ("IVF16,PQ8", "asked for")
    assert dict(plan.as_rows())["index type"] == "IVF16,PQ8 (asked for)"
