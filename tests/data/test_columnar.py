import datetime

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from ragkit.errors import DataError

NUM_ROWS = 2_500  # more than two batches


def make_table():
    numbers = range(NUM_ROWS)
    return pa.table(
        {
            "id": [n * 3 for n in numbers],
            "text": [f"text {n}" for n in numbers],
            "when": [datetime.date(2020, 1, 1 + n % 28) for n in numbers],
            "nested": [{"a": [n, n + 1]} for n in numbers],
            "score": [float("nan") if n % 2 else n / 2 for n in numbers],
            "image": [b"\x89PNG" for _ in numbers],
        }
    )


def write_parquet(table, path):
    pq.write_table(table, path, row_group_size=700)


def write_stream(table, path):
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


WRITERS = {
    "a.parquet": write_parquet,
    "a.feather": pyarrow.feather.write_feather,
    "a.arrow": write_stream,
}


@pytest.mark.parametrize("name", WRITERS)
def test_rows_of_every_columnar_format_become_documents(tmp_path, read, name):
    WRITERS[name](make_table(), tmp_path / name)

    documents = read(tmp_path / name)

    assert [document.id for document in documents] == [str(n * 3) for n in range(NUM_ROWS)]
    assert documents[1].text == "text 1"
    assert documents[1].source.endswith(f"{name}:2")
    assert documents[1].meta == {
        "when": "2020-01-02",
        "nested": {"a": [1, 2]},
        "score": None,
        "image": None,
    }


def test_only_the_columns_asked_for_become_metadata(tmp_path, read):
    write_parquet(make_table(), tmp_path / "a.parquet")

    documents = read(tmp_path / "a.parquet", meta_fields=("when",))

    assert documents[0].meta == {"when": "2020-01-01"}


def test_null_texts_are_refused_with_their_row(tmp_path, read):
    pq.write_table(pa.table({"text": ["a", None, "c"]}), tmp_path / "a.parquet")

    documents = read(tmp_path / "a.parquet")

    assert [document.id for document in documents] == ["a.parquet:1", "a.parquet:3"]
    assert read.rejected[0]["source"].endswith("a.parquet:2")


def test_strings_that_are_not_utf8_are_replaced_and_counted(tmp_path, read):
    broken = pa.array([b"tea", b"caf\xe9", b"cake"]).view(pa.string())
    pq.write_table(pa.table({"text": broken, "n": [1, 2, 3]}), tmp_path / "a.parquet")

    documents = read(tmp_path / "a.parquet")

    assert [document.text for document in documents] == ["tea", "caf\ufffd", "cake"]
    assert documents[1].meta == {"n": 2}
    assert [row["source"][-1] for row in read.rejected] == ["2"]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kept", [0, 3, 0.4, 0.99])
def test_a_cut_file_is_an_error(tmp_path, read, name, kept):
    WRITERS[name](make_table(), tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: kept if kept > 1 else int(kept * len(data))])

    with pytest.raises(
        DataError, match=rf"{name}: not a complete .* after \d+ rows.*fetch it again"
    ):
        read(tmp_path / name)


def test_a_broken_page_is_an_error_and_no_silent_success(tmp_path, read):
    write_parquet(make_table(), tmp_path / "a.parquet")
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    middle = len(data) // 3
    data[middle : middle + 400] = bytes(400)
    (tmp_path / "a.parquet").write_bytes(data)

    with pytest.raises(DataError, match="not a complete parquet file"):
        read(tmp_path / "a.parquet")


def test_a_table_without_text_names_its_columns(tmp_path, read):
    pq.write_table(pa.table({"label": [1]}), tmp_path / "a.parquet")

    with pytest.raises(DataError, match="found the columns label: name the text with --text-field"):
        read(tmp_path / "a.parquet")


def test_a_parquet_file_within_gzip_must_be_unpacked(tmp_path, read):
    (tmp_path / "a.parquet.gz").write_bytes(b"\x1f\x8b")

    with pytest.raises(DataError, match="unpack it first"):
        read(tmp_path / "a.parquet.gz")
