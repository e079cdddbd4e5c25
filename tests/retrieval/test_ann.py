import json

import numpy as np
import pytest

from ragkit.errors import ConfigError, RecallError
from ragkit.index.reader import Index
from ragkit.index.verify import verify_index
from ragkit.retrieval.build import build_index
from ragkit.retrieval.retriever import Retriever
from tests.retrieval.conftest import write_jsonl

ROWS, DIM = 1100, 16


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """A corpus with ready vectors of eight latent dimensions, as arguments of `build_index`."""
    folder = tmp_path_factory.mktemp("embedded")
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((ROWS, 8)) @ rng.standard_normal((8, DIM))
    np.save(folder / "v.npy", vectors.astype(np.float32))
    rows = [{"id": f"p{i}", "text": f"text {i}"} for i in range(ROWS)]
    corpus = write_jsonl(folder / "c.jsonl", rows)
    return {"inputs": corpus, "encoder": "", "embeddings": str(folder / "v.npy"), "threads": 1}


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("ann", ["IVF16,Flat", "HNSW8,Flat", "IVF16,SQ8"])
def test_the_recall_that_was_asked_for_is_there(embedded, tmp_path, ann, metric):
    report = build_index(**embedded, out=tmp_path / "i", ann=ann, metric=metric, recall="0.9@10")

    index = Index.open(tmp_path / "i")
    queries = index.vectors(np.arange(0, ROWS, 50)) + np.float32(0.01)
    _, found = index.search(queries, 10)
    _, truth = index.search(queries, 10, exact=True)
    shared = np.mean([len({*a} & {*b}) / 10 for a, b in zip(found, truth, strict=True)])
    # The queries differ from those of the tuning, and there are 22 of them.
    assert shared >= 0.8
    assert report.manifest.quality["recall"]["10"] >= 0.9
    assert report.manifest.ann["factory"] == ann
    assert report.manifest.ann["curve"]
    assert verify_index(tmp_path / "i") == []
    assert json.dumps(report.as_dict())


def test_hits_of_an_approximate_index_say_so_and_can_be_exact(embedded, tmp_path):
    build_index(**embedded, out=tmp_path / "i", ann="IVF16,Flat")

    with Retriever.open(tmp_path / "i", with_encoder=False) as retriever:
        vector = retriever.vectors(["p7"])[0]
        assert not retriever.search(vector, 3).exact
        assert retriever.search(vector, 3, exact=True).exact
        narrow = retriever.search(vector, ROWS, params={"nprobe": 1})
        assert 0 < len(narrow) < ROWS
        assert all(np.isfinite(hit.score) for hit in narrow)
        with pytest.raises(ConfigError, match="no search parameter of this index; it has: nprobe"):
            retriever.search(vector, 3, params={"efSearch": 9})


def test_a_recall_out_of_reach_publishes_nothing_unless_accepted(embedded, tmp_path):
    arguments = {**embedded, "ann": "IVF16,PQ2", "keep_vectors": "none", "recall": "0.99@10"}

    with pytest.raises(RecallError, match=r"nothing was published: IVF16,PQ2: .* --accept-recall"):
        build_index(**arguments, out=tmp_path / "i")
    assert not (tmp_path / "i" / "CURRENT").exists()
    report = build_index(**arguments, out=tmp_path / "i", accept_recall=True)

    assert report.manifest.quality["recall"]["10"] < 0.99


def test_an_index_of_codes_alone_keeps_no_vectors(embedded, tmp_path):
    build_index(**embedded, out=tmp_path / "i", ann="IVF16,SQ8", keep_vectors="none")

    index = Index.open(tmp_path / "i")
    assert index.segments[0].vectors is None
    assert not list((tmp_path / "i").rglob("vectors.*"))
    assert index.search(np.ones((2, DIM), np.float32), 5)[1].shape == (2, 5)


def test_another_index_type_does_not_embed_again(embedded, tmp_path):
    first = build_index(**embedded, out=tmp_path / "i", ann="exact")

    second = build_index(**embedded, out=tmp_path / "i", ann="IVF16,Flat", overwrite=True)

    assert second.content_hash == first.content_hash
    assert second.manifest.generation == 2


def test_auto_takes_a_graph_where_a_scan_would_be_slow(embedded, tmp_path):
    many = 10_500
    np.save(tmp_path / "v.npy", np.random.default_rng(1).standard_normal((many, 4), np.float32))
    corpus = write_jsonl(
        tmp_path / "c.jsonl", [{"id": str(i), "text": str(i)} for i in range(many)]
    )

    report = build_index(
        corpus, tmp_path / "i", encoder="", embeddings=str(tmp_path / "v.npy"), latency="0.001ms"
    )

    assert report.manifest.ann["factory"].startswith("HNSW32")
    assert report.manifest.quality["recall"]["10"] >= 0.95


def test_queries_of_a_file_are_used_for_tuning(tmp_path):
    texts = ["amber birch", "cedar delta", "ember flint grove"]
    rows = [{"id": str(i), "text": texts[i % 3] + f" {i}"} for i in range(50)]
    corpus = write_jsonl(tmp_path / "c.jsonl", rows)
    (tmp_path / "queries.txt").write_text("amber\n\ncedar delta\n")

    report = build_index(
        corpus, tmp_path / "i", encoder="hash:32", eval_queries=str(tmp_path / "queries.txt")
    )

    assert report.manifest.quality["queries"] == 2
    assert report.manifest.quality["queries_kind"] == "file"
    assert report.manifest.quality["self_hit_rate"] is None
