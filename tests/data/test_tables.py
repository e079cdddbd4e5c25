import csv

import pytest

from ragkit.errors import DataError

TRICKY = 'a "quoted" word,\na line break\tand a tab'


def write_csv(path, rows, **dialect):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, **dialect).writerows(rows)
    return path


def test_quotes_line_breaks_and_tabs_survive_csv(tmp_path, read):
    rows = [["id", "text", "lang"], ["1", TRICKY, "en"], ["2", "plain", "fr"]]

    first, second = read(write_csv(tmp_path / "a.csv", rows))

    assert (first.id, first.text, first.meta) == ("1", TRICKY, {"lang": "en"})
    assert (second.text, second.source) == ("plain", f"{tmp_path / 'a.csv'}:4")


def test_the_passages_of_dpr_are_read_by_their_header(tmp_path, read):
    rows = [["id", "text", "title"], ["1", TRICKY, "Aaron"], ["2", "plain", "Aaron"]]
    path = write_csv(tmp_path / "psgs_w100.tsv", rows, delimiter="\t")

    documents = read(path)

    assert [(d.id, d.text, d.title) for d in documents] == [
        ("1", TRICKY, "Aaron"),
        ("2", "plain", "Aaron"),
    ]
    assert documents == read(path, format="dpr")


def test_the_collection_of_ms_marco_has_no_header_and_no_quoting(tmp_path, read):
    path = tmp_path / "collection.tsv"
    path.write_text('0\t"An open quote\n1\tplain\n')

    documents = read(path)

    assert [(document.id, document.text) for document in documents] == [
        ("0", '"An open quote'),
        ("1", "plain"),
    ]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["words"], ("a.csv:1", "words", "", {})),
        (["x", "words"], ("x", "words", "", {})),
        (["x", "words", "T", "en"], ("x", "words", "T", {"4": "en"})),
    ],
)
def test_columns_without_a_header_go_by_position(tmp_path, read, cells, expected):
    [document] = read(write_csv(tmp_path / "a.csv", [cells]), header=False)

    assert (document.id, document.text, document.title, document.meta) == expected


def test_columns_without_a_header_can_be_named_by_number(tmp_path, read):
    path = write_csv(tmp_path / "a.csv", [["x", "T", "words"]])

    [document] = read(path, header=False, text_field="3", title_field="2")

    assert (document.text, document.title, document.meta) == ("words", "T", {"1": "x"})


def test_ragged_rows_are_refused_with_line_and_byte(tmp_path, read):
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,text\r\n1,"one\r\ntwo"\r\n2\r\n3,three,more\r\n\r\n4,four\r\n')

    documents = read(path)

    assert [document.text for document in documents] == ["one\r\ntwo", "four"]
    assert [(row["source"], row["reason"]) for row in read.rejected] == [
        (f"{path}:4", "expected 2 fields at byte 23, found 1"),
        (f"{path}:5", "expected 2 fields at byte 26, found 3"),
    ]


def test_a_row_with_stray_quotes_is_refused_and_the_next_is_read(tmp_path, read):
    path = tmp_path / "a.csv"
    path.write_text('id,text\n1,"a" b\n2,two\n')

    documents = read(path)

    assert [document.id for document in documents] == ["2"]
    assert read.rejected[0]["source"] == f"{path}:2"


def test_a_quote_that_never_closes_is_an_error_with_its_place(tmp_path, read):
    path = tmp_path / "a.tsv"
    path.write_text('id\ttext\n1\tone\n2\t"two\n3\tthree\n')

    with pytest.raises(DataError, match=r"a\.tsv:3 \(byte 14\): .*never ends.*--format msmarco"):
        read(path)


def test_a_field_of_20_mb_is_read(tmp_path, read):
    text = "many words " * 1_900_000

    [document] = read(write_csv(tmp_path / "a.csv", [["text"], [text]]))

    assert document.text == text


def test_bytes_that_are_not_utf8_are_counted_in_their_row_alone(tmp_path, read):
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,text\n1,"caf\xe9\nau lait"\n2,th\xc3\xa9\n')

    documents = read(path)

    assert [document.text for document in documents] == ["caf\ufffd\nau lait", "th\u00e9"]
    assert [row["source"] for row in read.rejected] == [f"{path}:2"]
    assert [document.id for document in read(path, on_invalid_utf8="skip")] == ["2"]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path, read):
    path = tmp_path / "a.csv"
    path.write_bytes("text,id\nwords,1\n".encode("utf-8-sig"))

    assert read(path)[0].text == "words"


@pytest.mark.parametrize(
    ("header", "options", "hint"),
    [
        (["id", "words"], {}, r"a text column .*found the columns id, words: name the text with"),
        (["id", "text"], {"meta_fields": ("year",)}, "expected year, found the columns id, text"),
        (["id", "text", "id"], {}, "two columns are named 'id'"),
    ],
)
def test_a_table_without_the_columns_asked_for_is_an_error(tmp_path, read, header, options, hint):
    path = write_csv(tmp_path / "a.csv", [header, ["1"] * len(header)])

    with pytest.raises(DataError, match=hint):
        read(path, **options)


def test_a_line_that_is_no_row_of_a_table_is_an_error(tmp_path, read):
    path = tmp_path / "a.csv"
    path.write_bytes(b"text\n" + b"x" * 17_000_000)

    with pytest.raises(DataError, match=r"a\.csv:2 \(byte 5\).*raise --max-doc-mb"):
        read(path, max_doc_mb=0.001)
