import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import ConfigError
from ragkit.finetune.radit.leaks import SourceFilter, drop_leaks, source_of
from ragkit.finetune.radit.records import InstructionRecord
from tests.finetune.radit.corpora import PASSAGES, build_corpus

TEST = "Who designed the opera house that rises from the fjord like a sheet of ice?"


def asking(*queries):
    return [InstructionRecord(f"r{i}", "open_qa", q, ("x",)) for i, q in enumerate(queries)]


@pytest.fixture(scope="module")
def retriever(tmp_path_factory):
    return build_corpus(tmp_path_factory.mktemp("leaks"), PASSAGES)[0]


def forbidden(retriever, record, **arguments):
    sources = SourceFilter(retriever, [record], **arguments)
    hits = retriever.search("the capital", k=len(PASSAGES))
    return {hit.id for hit in hits if sources.forbids(record, hit)}


def test_a_test_question_is_dropped_whatever_its_case_and_punctuation():
    records = asking("who designed opera house that rises from fjord like sheet of ice", "Why?")

    kept, report = drop_leaks(records, [TEST])

    assert kept == records[1:]
    assert (report.num_equal, report.num_overlapping, report.num_dropped) == (1, 0, 1)


def test_a_run_of_shared_words_is_reported_and_dropped_only_if_asked():
    records = asking("What rises from the fjord like a sheet of ice?", "Who likes ice?")

    kept, report = drop_leaks(records, [TEST], num_words=5)
    without, _ = drop_leaks(records, [TEST], num_words=5, drop_overlapping=True)

    assert (kept, without) == (records, records[1:])
    assert (report.num_overlapping, report.num_dropped) == (1, 0)
    [overlap] = report.examples
    assert (overlap.record_id, overlap.test_query) == ("r0", TEST)
    assert overlap.shared == "rises from fjord like sheet"


@given(
    queries=st.lists(st.text(st.sampled_from("ab. "), max_size=9), max_size=8),
    test=st.lists(st.text(st.sampled_from("ab. "), max_size=9), max_size=8),
    drop=st.booleans(),
)
def test_every_record_is_kept_or_counted_as_dropped(queries, test, drop):
    records = asking(*queries)

    kept, report = drop_leaks(records, test, num_words=2, drop_overlapping=drop)

    assert len(kept) + report.num_dropped == report.num_records == len(records)
    assert report.num_dropped == report.num_equal + drop * report.num_overlapping


def test_a_run_of_no_words_is_refused():
    with pytest.raises(ConfigError, match="8 is usual"):
        drop_leaks([], [], num_words=0)


def test_a_passage_belongs_to_the_document_before_its_number():
    assert [source_of(name) for name in ("Oslo#12", "Oslo", "C#", "a#1#2")] == [
        "Oslo",
        "Oslo",
        "C#",
        "a",
    ]


def test_a_question_about_the_corpus_may_see_all_of_it(retriever):
    assert forbidden(retriever, asking("which?")[0]) == set()


def test_a_record_does_not_see_its_document_nor_the_passages_beside_its_own(retriever):
    record = InstructionRecord("r", "corpus", "Rome is", ("seven hills.",), doc_id="Rome#1")

    # Lima follows in the index; the copy of the other passage ends with the target.
    assert forbidden(retriever, record) == {"Rome#0", "Rome#1", "Lima", "copy"}


def test_the_number_of_neighbours_can_be_chosen(retriever):
    record = InstructionRecord("r", "corpus", "Lima is", ("the Pacific.",), doc_id="Lima")

    assert forbidden(retriever, record, num_neighbours=0) == {"Lima"}
    assert forbidden(retriever, record, num_neighbours=2) == {
        "Rome#0",
        "Rome#1",
        "Lima",
        "Quito",
        "copy",
    }


def test_a_source_that_is_no_passage_is_a_document(retriever):
    record = InstructionRecord("r", "corpus", "Oslo", ("1894.",), doc_id="Oslo")

    assert forbidden(retriever, record) == {"Oslo#0", "Oslo#1", "Oslo#2"}


def test_a_record_that_was_cut_for_the_encoder_is_of_the_same_source(tmp_path):
    long = {"Oslo#0": "a fjord and " * 300, "Rome#0": "seven hills", "Oslo#1": "a park in Oslo"}
    retriever, index = build_corpus(tmp_path, long)
    record = InstructionRecord("r", "corpus", "a fjord", ("and more",), doc_id="Oslo#0#0")

    found = forbidden(retriever, record, num_neighbours=0)

    assert len(index) > len(long)
    assert found == {name for name in index.values("id", range(len(index))) if "Rome" not in name}


def test_a_negative_number_of_neighbours_is_refused(retriever):
    with pytest.raises(ConfigError, match="0 or more"):
        SourceFilter(retriever, [], num_neighbours=-1)
