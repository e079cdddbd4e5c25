import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.encoders import load_encoder
from ragkit.errors import ConfigError, IndexStateError, ModelMismatchError, ShapeError
from ragkit.retrieval.build import build_index
from ragkit.retrieval.retriever import Retriever
from ragkit.testing import write_tiny_encoder
from tests.retrieval.conftest import documents, write_jsonl


@pytest.fixture(scope="module")
def retriever(built):
    return Retriever.open(built.path)


def test_the_passage_that_says_it_comes_first(retriever):
    hits = retriever.search("who paints the lighthouse railing?", k=4)

    assert hits[0].id == hits[0].doc_id == "doc-3"
    assert (hits[0].title, hits[0].meta) == ("Title 3", {"year": 2003})
    assert hits[0].text == "the lighthouse keeper paints the railing 3"
    assert (hits[0].start, hits[0].end) == (0, len(hits[0].text))
    assert hits[0].source.endswith("corpus.jsonl:4")
    assert [hit.rank for hit in hits] == [1, 2, 3, 4]
    assert hits.exact
    assert hits.score_kind == "cosine"
    assert hits.generation == 1
    assert set(hits.took_ms) == {"embed", "search"}
    assert "doc-3" in repr(hits[0])


def test_a_search_is_exhaustive_cosine(retriever, built):
    encoder = load_encoder("hash:64")
    texts = [f"{row['title']} {row['text']}" for row in documents(37)]
    scores = encoder.encode(texts, role="passage") @ encoder.encode(["amber kelp"], role="query")[0]

    hits = retriever.search("amber kelp", k=37)

    np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1], atol=1e-6)
    np.testing.assert_allclose(
        [hit.score for hit in hits], [scores[hit.row] for hit in hits], atol=1e-6
    )


def test_hits_of_equal_score_come_in_the_order_of_their_ids(tmp_path):
    rows = [{"id": name, "text": "the same text"} for name in "dbeca"]
    build_index(write_jsonl(tmp_path / "c.jsonl", rows), tmp_path / "i", encoder="hash:16")

    hits = Retriever.open(tmp_path / "i").search("the same text", k=5)

    assert [hit.id for hit in hits] == list("abcde")
    assert len({hit.score for hit in hits}) == 1


@given(k=st.integers(1, 60), extra=st.integers(1, 20))
def test_more_hits_extend_fewer(retriever, k, extra):
    few, many = retriever.search("amber island", k), retriever.search("amber island", k + extra)

    assert len(few) == min(k, 37)
    assert [hit.id for hit in many[: len(few)]] == [hit.id for hit in few]
    assert all(a.score >= b.score for a, b in pairwise(many))


def test_a_batch_gives_what_single_queries_give(retriever):
    queries = ["amber birch", "cedar", "the railing", "lagoon kelp island", "flint"]

    batch = retriever.search_batch(queries, 6)

    for query, hits in zip(queries, batch, strict=True):
        single = retriever.search(query, 6)
        assert hits.query == query
        assert [hit.id for hit in hits] == [hit.id for hit in single]


def test_no_queries_give_no_hits(retriever):
    assert retriever.search_batch([]) == []


def test_a_vector_is_a_query_too(retriever):
    vector = retriever.embed_queries(["the lighthouse"])[0]

    by_vector, by_text = retriever.search(vector, 5), retriever.search("the lighthouse", 5)

    assert by_vector.query is None
    assert [hit.id for hit in by_vector] == [hit.id for hit in by_text]
    scaled = retriever.search(7 * vector.astype(np.float64), 5)
    np.testing.assert_allclose([h.score for h in scaled], [h.score for h in by_text], atol=1e-6)


def test_hits_below_a_score_are_left_out(retriever):
    everything = retriever.search("amber birch", 37)
    bar = everything[4].score

    hits = retriever.search("amber birch", 37, min_score=bar)

    assert [h.id for h in hits] == [h.id for h in everything if h.score >= bar]


@pytest.mark.parametrize("k", [0, -1, 10**9, "5", 2.0, True, None])
def test_a_senseless_k_is_named(retriever, k):
    with pytest.raises(ConfigError, match="k must be a whole number from 1 to 10000"):
        retriever.search("amber", k)


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("", "a query is empty"),
        (" \n", "a query is empty"),
        ("x" * 1_000_001, "at most 1000000 may be"),
    ],
)
def test_a_senseless_text_is_refused(retriever, query, hint):
    with pytest.raises(ConfigError, match=hint):
        retriever.search(query)


def test_what_is_neither_text_nor_vector_is_refused(retriever):
    with pytest.raises(ConfigError, match="must be a text, got int"):
        retriever.search_batch([7])
    with pytest.raises(ConfigError, match="wrap it in a list"):
        retriever.search_batch("amber")
    with pytest.raises(ConfigError, match="must be a text or a vector"):
        retriever.search(np.zeros((2, 64)))
    with pytest.raises(ShapeError, match=r"must be \[queries, 64\]"):
        retriever.search(np.zeros(63))
    with pytest.raises(ShapeError, match="holds NaN"):
        retriever.search(np.full(64, np.nan))


def test_passages_are_found_by_id(retriever):
    found = retriever.get(["doc-30", "nowhere", "doc-0"])

    assert [passage and passage.id for passage in found] == ["doc-30", None, "doc-0"]
    assert retriever.vectors(["doc-30", "doc-0"]).shape == (2, 64)
    with pytest.raises(ConfigError, match="no passage has the id 'nowhere'"):
        retriever.vectors(["doc-0", "nowhere"])


def test_all_passages_come_in_row_order(retriever):
    batches = list(retriever.iter_passages(["id", "chunk"]))

    ids = [name for batch in batches for name in batch.column("id").to_pylist()]
    assert ids == [f"doc-{i}" for i in range(37)]
    assert batches[0].schema.names == ["id", "chunk"]


def test_many_threads_find_the_same(retriever):
    queries = [f"{row['title']} {row['text']}" for row in documents(37)]
    expected = [[hit.id for hit in retriever.search(query, 5)] for query in queries]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda q: [hit.id for hit in retriever.search(q, 5)], queries * 3))

    assert found == expected * 3


def test_a_pickled_retriever_opens_the_same_index(retriever):
    copy = pickle.loads(pickle.dumps(retriever))

    assert [h.id for h in copy.search("cedar", 3)] == [h.id for h in retriever.search("cedar", 3)]


def test_without_encoder_only_vectors_are_searched(built):
    with Retriever.open(built.path, with_encoder=False) as retriever:
        assert len(retriever.search(np.ones(64), 3)) == 3
        with pytest.raises(IndexStateError, match="search by vector"):
            retriever.search("amber")


class OtherEncoder:
    """The encoder of the index, changed in one way."""

    def __init__(self, change):
        self._inner, self._change = load_encoder("hash:64"), change

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def encode(self, texts, *, role):
        return self._change(self._inner.encode(texts, role=role), role)

    def describe(self):
        return {**self._inner.describe(), "query_prefix": "query: "}


@pytest.mark.parametrize(
    "change",
    [
        lambda vectors, role: vectors[:, ::-1],
        lambda vectors, role: np.roll(vectors, 1, axis=1) if role == "query" else vectors,
        lambda vectors, role: np.full_like(vectors, np.nan),
    ],
)
def test_a_changed_encoder_is_refused_with_the_likely_cause(built, change):
    with pytest.raises(ModelMismatchError, match=r"another query prefix \('' then, 'query: ' now"):
        Retriever.open(built.path, encoder=OtherEncoder(change))


def test_an_encoder_of_another_width_is_refused(built):
    with pytest.raises(ModelMismatchError, match="gives 32 dimensions, not 64"):
        Retriever.open(built.path, encoder="hash:32")


def test_a_rounding_encoder_passes(built):
    rounding = OtherEncoder(lambda vectors, role: vectors.astype(np.float16).astype(np.float32))

    assert len(Retriever.open(built.path, encoder=rounding).search("amber")) == 10


def test_code_named_in_an_index_is_not_run(corpus, tmp_path):
    build_index(corpus, tmp_path / "i", encoder="python:tests.retrieval.functions:embed")

    with pytest.raises(ConfigError, match="code is never run because a file says so"):
        Retriever.open(tmp_path / "i")
    again = Retriever.open(tmp_path / "i", encoder="python:tests.retrieval.functions:embed")
    assert len(again.search("amber", 3)) == 3


def test_a_newer_generation_is_seen_after_refresh(corpus, tmp_path):
    build_index(corpus, tmp_path / "i", encoder="hash:16")
    retriever = Retriever.open(tmp_path / "i")
    old = retriever.search("amber", 40)
    longer = write_jsonl(tmp_path / "longer.jsonl", documents(41))
    build_index(longer, tmp_path / "i", encoder="hash:16", overwrite=True)

    assert not Retriever.open(tmp_path / "i").refresh()
    assert (len(retriever), len(old)) == (37, 37)
    assert retriever.refresh()
    assert len(retriever) == 41
    assert old.generation == 1
    assert old[0].text


def test_an_index_built_in_fp32_is_asked_in_fp32(corpus, tmp_path):
    folder = write_tiny_encoder(tmp_path / "model")
    build_index(corpus, tmp_path / "i", encoder=str(folder), dtype="fp32")

    with Retriever.open(tmp_path / "i") as retriever:
        assert retriever._encoder.describe()["dtype"] == "fp32"


def test_a_rebuilt_index_is_seen_even_with_the_old_number(corpus, tmp_path):
    build_index(corpus, tmp_path / "i", encoder="hash:16")
    retriever = Retriever.open(tmp_path / "i")
    shutil.rmtree(tmp_path / "i")
    build_index(write_jsonl(tmp_path / "c.jsonl", documents(41)), tmp_path / "i", encoder="hash:16")

    assert retriever.refresh()
    assert len(retriever) == 41


def test_the_length_of_a_query_does_not_matter_for_cosine(retriever):
    vector = retriever.embed_queries(["amber kelp"])[0]
    expected = [hit.score for hit in retriever.search(vector, 5)]

    for factor in (1e20, 1e-30):
        scores = [hit.score for hit in retriever.search(vector * np.float32(factor), 5)]
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_parameters_of_an_exact_search_are_refused(retriever):
    with pytest.raises(ConfigError, match="an exact search has no parameters"):
        retriever.search("amber", params={"nprobe": 3})


def test_ids_and_columns_are_checked(retriever):
    with pytest.raises(ConfigError, match="ids must be a list of texts"):
        retriever.get("doc-1")
    with pytest.raises(ConfigError, match="no column"):
        retriever.iter_passages(["nope"])
    with pytest.raises(ConfigError, match="query vectors must be numbers"):
        retriever.search_batch(np.array(["amber"]))
    assert retriever.get(["\udcff"]) == [None]
