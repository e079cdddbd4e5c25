import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import ConfigError
from ragkit.finetune.radit.records import InstructionRecord, read_records
from ragkit.finetune.radit.retrieve import retrieve_candidates
from ragkit.retrieval.build import build_index
from ragkit.retrieval.retriever import Retriever
from tests.finetune.radit.corpora import PASSAGES, build_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return build_corpus(tmp_path_factory.mktemp("retrieve"), PASSAGES)


def asking(*queries, **fields):
    return [
        InstructionRecord(f"r{i}", "open_qa", q, ("x",), **fields) for i, q in enumerate(queries)
    ]


def ids_of(index, rows):
    return index.values("id", [row for row in rows.tolist() if row >= 0])


def test_candidates_are_the_hits_of_a_search_without_equal_texts(corpus):
    retriever, index = corpus
    query = "Rome is the capital of Italy"

    candidates = retrieve_candidates(retriever, asking(query), k=8)

    hits = [hit for hit in retriever.search(query, k=9) if hit.id != "copy"]
    assert ids_of(index, candidates.rows[0]) == [hit.id for hit in hits]
    np.testing.assert_array_equal(candidates.scores[0], np.float32([hit.score for hit in hits]))
    assert candidates.counts.num_duplicates == 1


@given(
    queries=st.lists(st.sampled_from(list(PASSAGES.values())), min_size=1, max_size=6),
    k=st.integers(1, 11),
    batch_size=st.integers(1, 7),
)
def test_k_different_texts_are_left_wherever_the_index_has_them(corpus, queries, k, batch_size):
    retriever, index = corpus

    candidates = retrieve_candidates(retriever, asking(*queries), k=k, batch_size=batch_size)

    num_texts = len(set(PASSAGES.values()))
    for rows, scores in zip(candidates.rows, candidates.scores, strict=True):
        found = rows[rows >= 0]
        texts = index.values("text", found.tolist())
        assert len(set(texts)) == len(texts) == min(k, num_texts)
        assert (rows[len(found) :] == -1).all()
        assert (scores[len(found) :] == -np.inf).all()
        ids = index.values("id", found.tolist())
        ranked = list(zip((-scores[: len(found)]).tolist(), ids, strict=True))
        assert ranked == sorted(ranked)
    assert candidates.counts.num_short == (len(queries) if k > num_texts else 0)


def test_a_record_cut_from_a_long_document_still_gets_k_of_others(tmp_path):
    others = {f"other{i}": f"a lake and {word}" for i, word in enumerate(("elk", "owl", "fox"))}
    long = {f"book#{i}": f"a river and a river {i}" for i in range(50)}
    retriever, index = build_corpus(tmp_path, {**long, **others})
    record = InstructionRecord("r", "corpus", "a river and a river", ("7",), doc_id="book#7")

    candidates = retrieve_candidates(retriever, [record], k=3)

    assert sorted(ids_of(index, candidates.rows[0])) == ["other0", "other1", "other2"]
    assert candidates.counts.num_excluded == 50
    assert candidates.counts.num_short == 0


def test_a_record_for_which_nothing_is_left_is_counted(tmp_path):
    retriever, _ = build_corpus(tmp_path, {f"book#{i}": f"page {i}" for i in range(3)})
    record = InstructionRecord("r", "corpus", "page", ("2",), doc_id="book#2")

    candidates = retrieve_candidates(retriever, [record], k=2)

    assert (candidates.rows == -1).all()
    assert (candidates.scores == -np.inf).all()
    assert (candidates.counts.num_empty, candidates.counts.num_short) == (1, 0)


def test_records_that_retrieve_nothing_have_no_row(corpus):
    reading = InstructionRecord("x", "reading_comprehension", "who?", ("me",), context="I am.")

    candidates = retrieve_candidates(corpus[0], [reading, *asking("Oslo")], k=2)

    assert candidates.example_ids == ["r0"]
    assert candidates.rows.shape == (1, 2)


def test_no_records_give_an_empty_table(corpus):
    candidates = retrieve_candidates(corpus[0], [], k=4)

    assert candidates.rows.shape == candidates.scores.shape == (0, 4)


def test_the_search_is_for_the_retrieval_query(corpus):
    retriever, index = corpus
    [record] = asking("which one?", retrieval_query=PASSAGES["Quito"])

    candidates = retrieve_candidates(retriever, [record], k=1)

    assert ids_of(index, candidates.rows[0]) == ["Quito"]


def test_what_embedded_the_queries_is_kept(corpus):
    retriever, index = corpus

    candidates = retrieve_candidates(retriever, asking("Oslo"), k=1)

    assert candidates.encoder == retriever.query_model()
    assert candidates.encoder["name"] == "hash:64"
    assert candidates.index_hash == index.manifest.content_hash


@pytest.mark.parametrize(
    ("records", "arguments", "hint"),
    [
        (asking("a", "b") + asking("c"), {"k": 1}, "2 records have the id 'r0': make ids unique"),
        (asking("a"), {"k": 0}, "k must be a whole number"),
        (asking("a"), {"k": 1, "batch_size": 0}, "batch_size must be 1 or more"),
        (asking(""), {"k": 1}, "query is empty"),
    ],
)
def test_what_cannot_be_searched_is_refused(corpus, records, arguments, hint):
    with pytest.raises(ConfigError, match=hint):
        retrieve_candidates(corpus[0], records, **arguments)


def test_real_questions_find_their_passages_more_often_among_more(data_dir, tmp_path):
    squad = data_dir / "qa" / "squad11"
    build_index(squad / "passages.jsonl", tmp_path / "index", encoder="hash:64")
    records = read_records(squad / "dev.jsonl", task="open_qa")[::41]

    candidates = retrieve_candidates(Retriever.open(tmp_path / "index"), records, k=10)

    assert (candidates.rows >= 0).all()
    assert (np.diff(candidates.scores) <= 0).all()
    assert candidates.counts.num_examples == len(records) == 50
