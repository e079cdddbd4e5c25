"""The same content in every format, and corpora that are there."""

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragkit.data import ReadOptions, Rejects, read_documents

ROWS = [
    {"id": "1", "title": "One", "text": "first words"},
    {"id": "2", "title": "Two", "text": 'second "words",\nof two\tlines'},
    {"id": "3", "title": "", "text": "\u4e09 \U0001f600"},
]


def quoted(row, delimiter):
    return delimiter.join(
        '"' + row[key].replace('"', '""') + '"' for key in ("id", "text", "title")
    )


def write_all(folder):
    lines = "\n".join(json.dumps(row) for row in ROWS)
    (folder / "beir").mkdir()
    (folder / "beir" / "corpus.jsonl").write_text(lines.replace('"id"', '"_id"'))
    (folder / "a.jsonl").write_text(lines)
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        header = delimiter.join(("id", "text", "title"))
        rows = "\n".join([header, *(quoted(row, delimiter) for row in ROWS)])
        (folder / name).write_text(rows, encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "a.parquet")


@pytest.mark.parametrize("name", ["beir", "a.csv", "a.tsv", "a.parquet"])
def test_equal_content_gives_equal_documents_in_every_format(tmp_path, read, name):
    write_all(tmp_path)

    def content(given):
        return [(d.id, d.title, d.text, d.meta, d.kind) for d in read(given)]

    assert content(tmp_path / name) == content(tmp_path / "a.jsonl")


def test_documents_are_read_as_they_are_asked_for(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": 5}\n')
    rejects = Rejects()

    documents = read_documents([str(path)], rejects=rejects)
    next(documents)

    assert not rejects.counts
    assert list(documents) == []
    assert rejects.counts == {"malformed": 1}


@pytest.mark.parametrize(
    ("name", "count", "num_empty"), [("cranfield", 1398, 2), ("cisi", 1460, 0)]
)
def test_real_corpora_are_read_whole(data_dir, read, name, count, num_empty):
    documents = read(data_dir / "ir" / name)

    assert len({document.id for document in documents}) == len(documents) == count
    assert read.counts["empty"] == num_empty


def test_gzip_is_read_without_being_asked(data_dir):
    path = str(data_dir / "text" / "wiki_vital_en.jsonl.gz")
    options = ReadOptions(limit=40)

    documents = list(read_documents([path], options=options, rejects=Rejects()))

    assert len(documents) == 40
    assert documents[0].meta["cluster"] == "Arts"


@pytest.mark.parametrize("heavy", ["torch", "transformers", "datasets", "lxml", "pypdf"])
def test_importing_the_readers_is_light(heavy):
    code = f"import ragkit.data, sys; sys.exit({heavy!r} in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
