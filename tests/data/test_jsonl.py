import gzip
import io
import json
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.data import ReadOptions, Rejects, read_documents
from ragkit.errors import ConfigError, DataError


def write_lines(path, *rows):
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_a_row_becomes_a_document(tmp_path, read):
    row = {
        "_id": 7,
        "title": "T",
        "text": " kept as it is ",
        "lang": "en",
        "tags": ["a", {"b": None}],
    }
    path = write_lines(tmp_path / "corpus.jsonl", row)

    [document] = read(path)

    assert (document.id, document.title, document.text) == ("7", "T", " kept as it is ")
    assert document.meta == {"lang": "en", "tags": ["a", {"b": None}]}
    assert (document.source, document.kind) == (f"{path}:1", "record")


@pytest.mark.parametrize("field", ["text", "contents", "content", "passage", "body"])
@pytest.mark.parametrize("id_field", ["id", "_id", "docid", "doc_id", "pid"])
def test_well_known_names_are_guessed(tmp_path, read, field, id_field):
    [document] = read(write_lines(tmp_path / "a.jsonl", {id_field: "x", field: "words"}))

    assert (document.id, document.text, document.meta) == ("x", "words", {})


def test_the_first_well_known_name_wins_and_the_rest_is_metadata(tmp_path, read):
    row = {"body": "last", "docid": "2", "id": "1", "contents": "first"}

    [document] = read(write_lines(tmp_path / "a.jsonl", row))

    assert (document.id, document.text) == ("1", "first")
    assert document.meta == {"body": "last", "docid": "2"}


def test_named_fields_win_over_guessed_ones(tmp_path, read):
    row = {"text": "no", "abstract": "yes", "key": "k", "name": "N", "year": 2020, "x": 1}
    path = write_lines(tmp_path / "a.jsonl", row)

    [document] = read(
        path,
        text_field="abstract",
        id_field="key",
        title_field="name",
        meta_fields=("year", "gone"),
    )

    assert (document.id, document.title, document.text) == ("k", "N", "yes")
    assert document.meta == {"year": 2020}


def test_atlas_sections_join_the_title(tmp_path, read):
    row = {"id": "1", "title": "Iran", "section": "History", "text": "words"}

    [document] = read(write_lines(tmp_path / "a.jsonl", row))

    assert document.title == "Iran: History"


def test_members_of_metadata_are_metadata(tmp_path, read):
    row = {"_id": "1", "text": "words", "metadata": {"url": "u", "lang": "fr"}, "lang": "en"}

    [document] = read(write_lines(tmp_path / "a.jsonl", row))

    assert document.meta == {"url": "u", "lang": "en"}


def test_rows_without_an_id_are_named_by_file_and_line(tmp_path, read):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        write_lines(tmp_path / folder / "a.jsonl", {"text": "1"}, b"", {"text": "3", "id": None})

    documents = read(tmp_path / "x/a.jsonl", tmp_path / "y/a.jsonl")

    assert [document.id for document in documents] == [
        "a.jsonl:1",
        "a.jsonl:3",
        "y/a.jsonl:1",
        "y/a.jsonl:3",
    ]


@pytest.mark.parametrize("text", ["", "  \n\t", "\x00\x00", "\ufeff"])
def test_texts_that_show_nothing_are_skipped_and_counted(tmp_path, read, text):
    path = write_lines(tmp_path / "a.jsonl", {"text": "words"}, {"text": text, "title": "T"})

    documents = read(path)

    assert [document.text for document in documents] == ["words"]
    assert read.counts["empty"] == 1


def test_an_empty_text_is_an_error_if_asked(tmp_path, read):
    path = write_lines(tmp_path / "a.jsonl", {"text": "words"}, {"text": " "})

    with pytest.raises(DataError, match=r"a\.jsonl:2: the text is empty.*--on-empty skip"):
        read(path, on_empty="error")


@pytest.mark.parametrize(
    ("row", "code", "reason"),
    [
        ({"title": "T"}, "missing_text", "no field text or contents .*found title.*--text-field"),
        ({"text": None}, "missing_text", "found null"),
        ({"text": 5}, "malformed", "found a number"),
        ({"text": True}, "malformed", "found a boolean"),
        ({"text": ["a"]}, "malformed", "found a list"),
        ({"text": {"a": 1}}, "malformed", "found an object"),
        ({"text": "a", "id": ["x"]}, "malformed", "'id' must be a string or a number"),
        ({"text": "a", "title": {}}, "malformed", "'title' must be a string, found an object"),
        ({"text": "a", "blob": "x" * 1_000_001}, "too_large", "use --meta-fields"),
        ({"text": "a"} | {f"c{n}": n for n in range(5_000)}, "too_large", "5000 fields, at most"),
        ({"text": "words " * 200_000}, "too_large", "--max-doc-mb"),
        (b'{"id": "2", "text": "cut in the', "malformed", "at byte 19: Unterminated"),
        (b"[1, 2]", "malformed", "at byte 19, found list"),
        (b"[" * 10_000, "malformed", "at byte 19"),
        (b'{"text": "a", "deep": ' + b"[" * 50 + b"]" * 50 + b"}", "too_large", "nested deeper"),
    ],
)
def test_an_unfit_row_is_refused_with_its_reason_and_the_others_are_read(
    tmp_path, read, row, code, reason
):
    path = write_lines(tmp_path / "a.jsonl", {"text": "before"}, row, {"text": "after"})

    documents = read(path, max_doc_mb=1)

    assert [document.text for document in documents] == ["before", "after"]
    [rejected] = read.rejected
    assert (rejected["source"], rejected["code"]) == (f"{path}:2", code)
    assert rejected["action"] == "refused"
    assert re.search(reason, rejected["reason"])


def test_a_line_without_an_end_in_sight_is_refused_in_bounded_memory(tmp_path, read):
    path = write_lines(tmp_path / "a.jsonl", b'{"text": "' + b"x" * 17_000_000, {"text": "after"})

    documents = read(path, max_doc_mb=0.001)

    assert [document.id for document in documents] == ["a.jsonl:2"]
    assert read.counts == {"too_large": 1}


def test_bytes_that_are_not_utf8_are_replaced_and_later_rows_are_unaffected(tmp_path, read):
    path = write_lines(tmp_path / "a.jsonl", b'{"text": "caf\xe9"}', {"text": "th\u00e9"})

    documents = read(path)

    assert [document.text for document in documents] == ["caf\ufffd", "th\u00e9"]
    assert read.rejected[0]["action"] == "altered"
    assert read.counts == {"invalid_utf8": 1}


def test_rows_that_are_not_utf8_are_skipped_if_asked(tmp_path, read):
    path = write_lines(tmp_path / "a.jsonl", b'{"text": "caf\xe9"}', {"text": "th\u00e9"})

    documents = read(path, on_invalid_utf8="skip")

    assert [document.text for document in documents] == ["th\u00e9"]
    assert read.rejected[0]["action"] == "refused"


def test_rows_that_are_not_utf8_are_an_error_if_asked(tmp_path, read):
    path = write_lines(tmp_path / "a.jsonl", {"text": "tea"}, b'{"text": "caf\xe9"}')

    with pytest.raises(DataError, match=r"a\.jsonl:2.*--on-invalid-utf8 replace"):
        read(path, on_invalid_utf8="error")


def test_lone_surrogates_and_nul_are_taken_out_of_all_strings(tmp_path, read):
    row = {
        "id": "i\ud800",
        "title": "t\x00",
        "text": "a\ud800b\x00c",
        "meta": {"k\udfff": ["\x00v"]},
    }
    path = write_lines(tmp_path / "a.jsonl", row, {"text": "\U0001f600"})

    first, second = read(path)

    assert (first.id, first.title, first.text) == ("i\ufffd", "t", "a\ufffdbc")
    assert first.meta == {"k\ufffd": ["v"]}
    assert second.text == "\U0001f600"
    assert read.counts == {"lone_surrogate": 1, "nul": 1}


def test_numbers_that_json_does_not_know_are_null(tmp_path, read):
    path = write_lines(tmp_path / "a.jsonl", b'{"text": "a", "score": NaN, "id": -Infinity}')

    [document] = read(path)

    assert (document.id, document.meta) == ("a.jsonl:1", {"score": None})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_understood(tmp_path, read, encoding):
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"text": "caf\u00e9"}\r\n{"text": "tea"}\r\n'.encode(encoding))

    assert [document.text for document in read(path)] == ["caf\u00e9", "tea"]


@pytest.mark.parametrize("text", ['[{"text": "a"}, {"text": "b"}]', '[\n{"text": "a"}\n]'])
def test_a_json_array_is_an_error_that_says_how_to_convert_it(tmp_path, read, text):
    path = tmp_path / "a.json"
    path.write_text(text)

    with pytest.raises(DataError, match="jq -c"):
        read(path)


def test_a_cut_gzip_file_is_an_error_and_no_silent_success(tmp_path, read):
    path = tmp_path / "a.jsonl.gz"
    data = b"".join(b'{"id": %d, "text": "number %d"}\n' % (n, n * n) for n in range(5_000))
    path.write_bytes(gzip.compress(data)[:-9])

    with pytest.raises(DataError, match=r"a\.jsonl\.gz.*fetch the file again"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
def test_a_file_without_rows_gives_no_documents(tmp_path, read, content):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)

    assert read(path) == []


def test_standard_input_is_jsonl(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "a"}\n{"text": "b"}')))

    documents = list(read_documents(["-"], rejects=Rejects()))

    assert [(document.id, document.text) for document in documents] == [
        ("stdin:1", "a"),
        ("stdin:2", "b"),
    ]


def test_reading_stops_at_the_limit(tmp_path, read):
    path = write_lines(tmp_path / "a.jsonl", *({"text": f"t{n}"} for n in range(5)))

    assert [document.text for document in read(path, limit=3)] == ["t0", "t1", "t2"]


@pytest.mark.parametrize("options", [{"limit": -1}, {"max_doc_mb": 0}, {"max_file_mb": -2}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match="leave"):
        ReadOptions(**options)


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf"]), min_size=1)))
def test_texts_come_back_as_they_were_written(tmp_path_factory, texts):
    texts = [f"a{text}" for text in texts]
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    write_lines(path, *({"id": n, "text": text} for n, text in enumerate(texts)))

    documents = list(read_documents([str(path)], rejects=Rejects()))

    assert [document.text for document in documents] == texts
