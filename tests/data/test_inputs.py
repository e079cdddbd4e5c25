import json
import os

import pytest

from ragkit.data.inputs import expand
from ragkit.data.options import ReadOptions
from ragkit.errors import ConfigError, DataError


def fill(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"words of {name}\n")
    return root


def labels(*inputs, **options):
    found = expand([str(given) for given in inputs], options=ReadOptions(**options))
    return [item.label for item in found]


def test_files_of_a_folder_come_in_the_order_of_their_paths(tmp_path):
    fill(tmp_path, "b.txt", "a/z.md", "a.rst", "B.html", "a/b/c.pdf", "\u00e9.markdown", "z.htm")

    found = labels(tmp_path)

    assert found == sorted(found, key=os.fsencode)
    assert found == ["B.html", "a.rst", "a/b/c.pdf", "a/z.md", "b.txt", "z.htm", "\u00e9.markdown"]


def test_inputs_keep_their_order(tmp_path):
    fill(tmp_path, "b.txt", "a.txt")

    assert labels(tmp_path / "b.txt", tmp_path / "a.txt") == ["b.txt", "a.txt"]


def test_hidden_files_and_unknown_formats_are_passed_by(tmp_path):
    fill(tmp_path, "a.txt", ".hidden.txt", ".git/b.txt", "photo.png", "notes", "c.txt.gz")

    assert labels(tmp_path) == ["a.txt", "c.txt.gz"]


def test_links_are_not_followed(tmp_path):
    root = fill(tmp_path / "root", "a.txt", "sub/b.txt")
    outside = fill(tmp_path / "outside", "secret.txt")
    (root / "out").symlink_to(outside)
    (root / "secret.txt").symlink_to(outside / "secret.txt")
    (root / "sub" / "loop").symlink_to(root)
    (root / "again.txt").symlink_to(root / "a.txt")
    (root / "gone.txt").symlink_to(root / "nowhere")

    assert labels(root) == ["a.txt", "sub/b.txt"]


def test_a_folder_that_is_itself_a_link_is_read(tmp_path):
    (tmp_path / "link").symlink_to(fill(tmp_path / "root", "a.txt"))

    assert labels(tmp_path / "link") == ["a.txt"]


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [
        ("*.md", ["a.txt", "build/c.txt", "docs/build/d.txt"]),
        ("build/", ["a.txt", "b.md"]),
        ("/build", ["a.txt", "b.md", "docs/build/d.txt"]),
        ("docs/*/d.txt", ["a.txt", "b.md", "build/c.txt"]),
        ("*.txt\n!a.txt", ["a.txt", "b.md"]),
        ("# *.md\n\n", ["a.txt", "b.md", "build/c.txt", "docs/build/d.txt"]),
    ],
)
def test_ignored_patterns_are_left_out(tmp_path, pattern, kept):
    fill(tmp_path, "a.txt", "b.md", "build/c.txt", "docs/build/d.txt")
    (tmp_path / ".ragkitignore").write_text(pattern)

    assert labels(tmp_path) == kept


def test_tables_of_a_folder_are_read_if_it_holds_no_prose(tmp_path, caplog):
    fill(tmp_path, "a.jsonl", "b.csv")
    tables_only = labels(tmp_path)

    fill(tmp_path, "c.md")

    assert tables_only == ["a.jsonl", "b.csv"]
    assert labels(tmp_path) == ["c.md"]
    assert "2 tables beside text files are not read" in caplog.text


def test_a_named_format_chooses_the_files_of_a_folder(tmp_path):
    fill(tmp_path, "a.jsonl", "b.md", "c.tsv")

    assert labels(tmp_path, format="jsonl") == ["a.jsonl"]
    assert labels(tmp_path, format="markdown") == ["b.md"]
    assert labels(tmp_path, format="msmarco") == ["c.tsv"]


def test_a_beir_folder_stands_for_its_corpus(tmp_path, read):
    fill(tmp_path, "queries.jsonl", "qrels/test.tsv", "README.md")
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"_id": "7", "title": "T", "text": "words"}))

    [document] = read(tmp_path)

    assert (document.id, document.title, document.text) == ("7", "T", "words")


def test_equal_names_are_told_apart_by_their_folders(tmp_path):
    for folder in ("x/docs", "y/docs", "z"):
        fill(tmp_path / folder, "README.md", "sub/a.md")

    assert labels(tmp_path / "x/docs", tmp_path / "y/docs", tmp_path / "z") == [
        "README.md",
        "sub/a.md",
        "docs/README.md",
        "docs/sub/a.md",
        "z/README.md",
        "z/sub/a.md",
    ]


def test_the_same_file_twice_keeps_its_name_so_that_the_ids_clash(tmp_path):
    path = fill(tmp_path, "a.txt") / "a.txt"

    assert labels(path, path, tmp_path) == ["a.txt"] * 3


def test_patterns_are_sorted_and_a_name_with_brackets_is_a_name(tmp_path):
    fill(tmp_path, "b1.txt", "a1.txt", "sub/c1.txt", "odd[1].txt")

    assert labels(tmp_path / "*1.txt") == ["a1.txt", "b1.txt"]
    assert labels(tmp_path / "**/*1.txt") == ["a1.txt", "b1.txt", "c1.txt"]
    assert labels(tmp_path / "odd[1].txt") == ["odd[1].txt"]


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("gone.txt", "no such file or folder: check the path"),
        ("s3://bucket/a.jsonl", "URLs are not read: download it"),
        ("*.txt", "the pattern matches no file"),
        ("empty", "no readable file in the folder"),
        ("pictures", "no readable file in the folder"),
        ("data.xyz", r"unknown format \(suffix '.xyz'.*name its format with --format"),
    ],
)
def test_what_cannot_be_read_is_an_error_before_the_first_document(
    tmp_path, monkeypatch, given, hint
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    fill(tmp_path, "a.jsonl", "pictures/a.png", "data.xyz")

    with pytest.raises(DataError, match=hint):
        labels("a.jsonl", given)


def test_an_unknown_format_name_lists_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match="choose auto or one of jsonl, csv, tsv, dpr"):
        labels(fill(tmp_path, "a.txt"), format="word")


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("corpus", b'{"text": "a"}', "jsonl"),
        ("page", b"<!DOCTYPE html><p>a", "html"),
        ("paper", b"%PDF-1.7", "pdf"),
        ("table", b"PAR1", "parquet"),
        ("a.TXT", b"", "text"),
        ("a.tsv", b"12\tsome words\n", "msmarco"),
        ("a.tsv", b"id\ttext\n", "tsv"),
        ("pipe", None, "jsonl"),
    ],
)
def test_formats_are_known_by_suffix_or_first_bytes(tmp_path, name, head, expected):
    path = tmp_path / name
    os.mkfifo(path) if head is None else path.write_bytes(head)

    [item] = expand([str(path)], options=ReadOptions())

    assert item.format == expected
