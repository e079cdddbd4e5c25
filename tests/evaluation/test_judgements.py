import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import DataError
from ragkit.evaluation.judgements import read_qrels, read_queries

IDS = st.text(st.characters(codec="ascii", exclude_characters="\t\n\r"), min_size=1).filter(
    lambda text: text.strip() == text and text not in {"query-id", "query_id", "qid"}
)


def write(tmp_path, text, *, encoding="utf-8"):
    path = tmp_path / "input"
    path.write_bytes(text.encode(encoding))
    return path


def test_queries_keep_the_order_of_the_file(tmp_path):
    lines = ['{"_id": "b", "text": "who?", "metadata": {}}', "", '{"_id": 7, "text": "na\u00efve"}']

    queries = read_queries(write(tmp_path, "\n".join(lines)))

    assert list(queries.items()) == [("b", "who?"), ("7", "na\u00efve")]


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path):
    path = write(tmp_path, '{"_id": "1", "text": "who?"}\r\n', encoding="utf-8-sig")

    assert read_queries(path) == {"1": "who?"}


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "holds no query: expected lines like"),
        ("{broken", r"input:1: not JSON"),
        ('{"_id": "1", "text": "a"}\n\n[1, 2]', r"input:3: expected an object .* found '\[1, 2\]'"),
        ('{"id": "1", "text": "a"}', r"input:1: expected `_id` and a `text` .* found id, text"),
        ('{"_id": "1", "text": "  "}', r"input:1: expected `_id` and a `text` that is not blank"),
        ('{"_id": "1", "text": null}', r"input:1: expected `_id`"),
        ('{"_id": null, "text": "a"}', r"input:1: expected `_id`"),
        ("{}", "found no keys"),
        (
            '{"_id": "1", "text": "a"}\n{"_id": 1, "text": "b"}',
            r"input:2: query id '1' came before",
        ),
    ],
)
def test_bad_queries_are_refused_with_their_line(tmp_path, text, hint):
    with pytest.raises(DataError, match=hint):
        read_queries(write(tmp_path, text))


@pytest.mark.parametrize("read", [read_queries, read_qrels])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, read):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read(tmp_path / "absent")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read(tmp_path)


@pytest.mark.parametrize("read", [read_queries, read_qrels])
def test_a_file_in_another_encoding_is_refused(tmp_path, read):
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read(write(tmp_path, "caf\u00e9\t1\t1", encoding="latin-1"))


@given(
    grades=st.dictionaries(IDS, st.dictionaries(IDS, st.integers(-2, 4), min_size=1), min_size=1)
)
@pytest.mark.parametrize("header", ["", "query-id\tcorpus-id\tscore\n"])
def test_beir_judgements_read_back_as_written(tmp_path_factory, header, grades):
    rows = [f"{q}\t{d}\t{g}\n" for q, docs in grades.items() for d, g in docs.items()]
    path = write(tmp_path_factory.mktemp("qrels"), header + "".join(rows))

    assert read_qrels(path) == grades


def test_trec_judgements_may_be_separated_by_any_white_space(tmp_path):
    path = write(tmp_path, "1 0 d5 2\n1\t0\td3\t0\n\n2  Q0  d5  -1\n")

    assert read_qrels(path) == {"1": {"d5": 2, "d3": 0}, "2": {"d5": -1}}


def test_a_repeated_judgement_counts_once(tmp_path):
    assert read_qrels(write(tmp_path, "1\td5\t2\n1\td5\t2\n")) == {"1": {"d5": 2}}


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "holds no judgement"),
        ("query-id\tcorpus-id\tscore\n", "holds no judgement"),
        ("1\td5\n", r"input:1: expected 3 columns .* or 4 columns"),
        ("1 0 d5 2 extra\n", r"input:1: expected 3 columns"),
        ("query-id\tcorpus-id\tscore\n1\td5\tyes\n", r"input:2: expected a whole number .* 'yes'"),
        ("1\td5\t1.5\n", r"input:1: expected a whole number as grade, found '1.5'"),
        ("1\td5\t2\n1\td5\t0\n", r"input:2: document 'd5' has grade 0 for query '1', but 2 in an"),
    ],
)
def test_bad_judgements_are_refused_with_their_line(tmp_path, text, hint):
    with pytest.raises(DataError, match=hint):
        read_qrels(write(tmp_path, text))
