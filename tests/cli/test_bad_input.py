"""Whatever `build-index` is fed: a message that says what to do, and nothing published is lost."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest

from ragkit.index.reader import Index
from ragkit.index.verify import verify_index
from tests.cli.running import build, run

GOOD = b'{"id": "a", "text": "the wing"}\n{"id": "b", "text": "heat and drag"}\n'
END = len(GOOD)

REJECTED = {
    "empty file": ("c.jsonl", b"", r"no passages in .*nothing read.*: check the path"),
    "blank lines": ("c.jsonl", b"\n \n\t\n", r"no passages in .*: check the path"),
    "invisible texts": (
        "c.jsonl",
        b'{"text": " \\n"}\n{"text": ""}\n{"text": "\\u0000"}\n{"text": "\\ud800"}\n',
        r"no passages in .*empty 4",
    ),
    "equal ids": ("c.jsonl", GOOD + GOOD, r"c\.jsonl:3: 'a'\n.*:4: 'b'\nmake ids unique, or pass"),
    "cut line": ("c.jsonl", GOOD + b'{"te', rf"c\.jsonl:3: not a JSON object at byte {END}"),
    "number as text": ("c.jsonl", GOOD + b'{"text": 5}', "'text' must be a string, found a number"),
    "null as text": ("c.jsonl", GOOD + b'{"text": null}', "must be a string, found null"),
    "list as text": ("c.jsonl", GOOD + b'{"text": ["x"]}', "must be a string, found a list"),
    "list as row": ("c.jsonl", GOOD + b'["x"]', f"a JSON object at byte {END}, found list"),
    "object as id": ("c.jsonl", GOOD + b'{"id": {}, "text": "x"}', "'id' must be a string"),
    "no text": ("c.jsonl", b'{"id": "a", "words": "x"}', "name the text with --text-field"),
    "deep nesting": ("c.jsonl", GOOD + b'{"text": "x", "m": ' + b"[" * 9999, r"c\.jsonl:3: not a"),
    "one array": ("c.json", b'[{"text": "x"}]', "convert it with `jq"),
    "unknown suffix": ("c.xyz", b"\x00\x01", "unknown format.*name its format with --format"),
    "cut gzip": ("c.jsonl.gz", gzip.compress(GOOD)[:-9], "is cut after .*fetch the file again"),
    "no gzip": ("c.jsonl.gz", GOOD, r"expected a \.gz file.*has the wrong name"),
    "no parquet": (
        "c.parquet",
        b"PAR1????",
        "not a complete parquet file.*write or fetch it again",
    ),
    "ragged table": ("c.csv", b"id,text\n1,a,b\n", "expected 2 fields at byte 8, found 3"),
    "open quote": (
        "c.csv",
        b'id,text\n1,"a\n2,b\n',
        "c.csv:2 .*a quoted field starts .*never ends",
    ),
    "no text column": ("c.csv", b"a,b\n1,2\n", "expected a text column .*found the columns a, b"),
}

MISUSED = {
    "unknown format": (["--format", "nonsense"], "choose auto or one of jsonl"),
    "unknown chunker": (["--chunk", "nonsense"], r"write one of none, words:N"),
    "longer chunks than the encoder sees": (["--chunk", "tokens:9999"], "use at most tokens:512"),
    "unknown index type": (["--ann", "nonsense"], "faiss factory string"),
    "more lists than rows": (["--ann", "IVF1024,Flat"], "at least 30720 rows to train on, found 2"),
    "no recall": (["--recall", "much"], "must look like 0.95@10"),
    "recall above 1": (["--recall", "1.5@10"], "must look like 0.95@10"),
    "no size": (["--memory", "lots"], "a size such as 16G"),
    "no duration": (["--latency", "fast"], "a duration such as 50ms"),
    "no share": (["--max-rejects", "some"], "must be like 1% or 20"),
    "no text in the template": (["--template", "{title}"], r"must contain \{text\}"),
    "no rows in a part": (["--part-rows", "0"], "part_rows must be at least 1, got 0"),
    "negative seed": (["--seed", "-1"], "seed must be at least 0, got -1"),
    "no threads": (["--threads", "0"], "threads must be at least 1, got 0"),
    "negative limit": (["--limit", "-1"], "leave it out to read all"),
    "nothing to search in": (
        ["--ann", "exact", "--keep-vectors", "none"],
        "use --keep-vectors f16",
    ),
    "no configuration": (["--config", "nowhere.yaml"], "give a path to a YAML file"),
    "encoder without width": (["--encoder", "hash:x"], "write hash:256"),
    "no such folder": (["--encoder", "/no/such/folder"], "no model at '/no/such/folder': give"),
    "no such package": (["--encoder", "package:no_such_one"], "run `pip install no"),
    "no such function": (["--encoder", "python:no_such_one:f"], "write python:MODULE:NAME"),
    "no encoder": (["--encoder", ""], "pass --encoder, or --embeddings"),
}


@pytest.fixture
def corpus(tmp_path):
    return write(tmp_path / "good.jsonl", GOOD)


@pytest.fixture
def published(tmp_path, corpus):
    """An index whose generation 1 must outlive every refusal."""
    assert build(corpus, "-o", tmp_path / "published").exit_code == 0
    return tmp_path / "published"


def write(path, content):
    path.write_bytes(content)
    return path


def save(path, matrix):
    np.save(path, matrix, allow_pickle=True)
    return path


def read_lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def assert_refused(exit_code, hint, *arguments, published):
    """Neither on a fresh path nor over an index does the build leave a trace that a reader sees."""
    fresh = published.with_name("fresh")
    before = (published / "CURRENT").read_bytes()
    for target in ([fresh], [published, "--overwrite"]):
        result = build(*arguments, "-o", *target)

        assert result.exit_code == exit_code, result.stderr
        assert result.stderr.startswith("error: ")
        assert re.search(hint, result.stderr)
        assert "Traceback" not in result.stderr
        assert result.stdout == ""
    assert not (fresh / "CURRENT").exists()
    assert (published / "CURRENT").read_bytes() == before
    assert verify_index(published) == []


@pytest.mark.parametrize("case", REJECTED)
def test_input_that_cannot_be_used_is_rejected(published, tmp_path, case):
    name, content, hint = REJECTED[case]

    assert_refused(3, hint, write(tmp_path / name, content), published=published)


@pytest.mark.parametrize("case", MISUSED)
def test_flags_that_make_no_sense_are_a_usage_error(published, corpus, monkeypatch, case):
    flags, hint = MISUSED[case]
    monkeypatch.setenv("RAGKIT_ENCODER", "hash:16")

    assert_refused(2, hint, corpus, *flags, published=published)


def test_a_missing_path_and_a_folder_without_readable_files_are_rejected(published, tmp_path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "binary").mkdir()
    write(tmp_path / "binary" / "a.bin", b"\x00")

    assert_refused(3, "no such file.*check the path", tmp_path / "none", published=published)
    assert_refused(3, "no file|no readable file", tmp_path / "bare", published=published)
    assert_refused(3, "no readable file in the", tmp_path / "binary", published=published)
    assert_refused(3, "the pattern matches no file", tmp_path / "*.none", published=published)


def test_a_model_that_the_hub_cannot_give_is_a_network_error(published, corpus):
    flags = ("--encoder", "no-such-owner/no-such-model")

    assert_refused(9, "give a folder, a hub id such as", corpus, *flags, published=published)


def test_queries_for_the_check_that_cannot_be_read_are_rejected(published, corpus, tmp_path):
    blank = write(tmp_path / "q.txt", b"\n \n")

    for file, hint in [
        (tmp_path / "none", "cannot be read.*check --eval-queries"),
        (blank, "write one a"),
    ]:
        assert_refused(3, hint, corpus, "--eval-queries", file, published=published)


def test_an_output_that_is_something_else_is_left_alone(corpus, tmp_path):
    mine = write(tmp_path / "notes.txt", b"mine")

    for out in (tmp_path, mine):
        result = build(corpus, "-o", out)

        assert result.exit_code == 2
        assert "nothing was touched: choose another output path" in result.stderr
    assert mine.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("matrix", "exit_code", "hint"),
    [
        (
            np.full((2, 16), np.nan, np.float32),
            3,
            "the vector holds NaN or infinity, or has length 0",
        ),
        (np.full((2, 16), -np.inf, np.float32), 3, "the vector holds NaN or infinity"),
        (np.zeros((2, 16), np.float32), 3, "or has length 0"),
        (np.ones((3, 16), np.float32), 2, "3 rows, the input has 2 passages: give one row per"),
        (np.ones((2, 5), np.float32), 2, "5 dimensions, the encoder 16: name the encoder"),
        (np.ones(2, np.float32), 3, "expected a matrix of floats"),
        (np.ones((2, 16), np.int64), 3, "expected a matrix of floats"),
        (np.array([[object()]]), 3, "pickled arrays are never read"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(
    published, corpus, tmp_path, matrix, exit_code, hint
):
    file = save(tmp_path / "v.npy", matrix)

    assert_refused(exit_code, hint, corpus, "--embeddings", file, published=published)


class Planted:
    """Pickles as a call that makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_in_embeddings_is_never_run(published, corpus, tmp_path):
    array = np.array([[Planted(tmp_path / "planted")]])

    file = save(tmp_path / "v.npy", array)

    assert_refused(3, "never read", corpus, "--embeddings", file, published=published)
    assert not (tmp_path / "planted").exists()


def test_a_row_without_a_usable_vector_is_left_out(corpus, tmp_path):
    vectors = np.ones((2, 16), np.float32)
    vectors[0, 3] = np.nan
    file = save(tmp_path / "v.npy", vectors)

    flags = ("--encoder", "", "--embeddings", file, "--max-rejects", "50%", "--json")
    result = build(corpus, "-o", tmp_path / "i", *flags)

    assert json.loads(result.stdout)["counts"]["bad_vector"] == 1
    index = Index.open(tmp_path / "i")
    assert [p.id for p in index.passages(np.arange(len(index)))] == ["b"]
    assert np.isfinite(index.vectors(np.arange(len(index)))).all()


@pytest.mark.parametrize(
    ("row", "code", "text"),
    [
        (b'{"text": "caf\xff drag"}', "invalid_utf8", "caf\ufffd drag"),
        (b'{"text": "caf\\ud800 drag"}', "lone_surrogate", "caf\ufffd drag"),
        (b'{"text": "caf\\u0000 drag"}', "nul", "caf drag"),
    ],
)
def test_characters_that_no_store_takes_are_replaced_and_counted(tmp_path, row, code, text):
    path = write(tmp_path / "c.jsonl", row + b"\n" + GOOD)

    result = build(path, "-o", tmp_path / "i", "--json")

    facts = json.loads(result.stdout)
    index = Index.open(tmp_path / "i")
    found = index.passages(np.arange(len(index)))
    assert facts["counts"][code] == 1
    assert [p.text for p in found] == [text, "the wing", "heat and drag"]
    assert found[0].id == "c.jsonl:1"
    [line] = read_lines(facts["rejects"])
    assert (line["source"], line["code"]) == (f"{path}:1", code)


def test_invalid_utf8_is_an_error_where_that_is_asked_for(published, tmp_path):
    path = write(tmp_path / "c.jsonl", GOOD + b'{"text": "caf\xff"}')

    arguments = (path, "--on-invalid-utf8", "error")

    assert_refused(3, "--on-invalid-utf8 replace or skip", *arguments, published=published)


def test_blank_documents_leave_no_vector(tmp_path):
    rows = [{"id": str(i), "text": text} for i, text in enumerate(["x", " ", "\t\n", "\0", "y"])]
    path = write(tmp_path / "c.jsonl", "\n".join(map(json.dumps, rows)).encode())

    result = build(path, "-o", tmp_path / "i", "--json")

    index = Index.open(tmp_path / "i")
    assert json.loads(result.stdout)["counts"]["empty"] == 3
    assert [p.id for p in index.passages(np.arange(len(index)))] == ["0", "4"]


def test_one_bad_row_in_a_thousand_is_tolerated_and_reported(tmp_path):
    rows = [f'{{"id": "{i}", "text": "row {i}"}}' for i in range(999)]
    path = write(tmp_path / "c.jsonl", "\n".join([*rows, "not JSON"]).encode())

    result = build(path, "-o", tmp_path / "i", "--json")

    facts = json.loads(result.stdout)
    assert (facts["passages"], facts["counts"]["malformed"]) == (999, 1)
    assert [line["source"] for line in read_lines(facts["rejects"])] == [f"{path}:1000"]


def test_a_named_format_reads_a_file_of_any_name(tmp_path):
    path = write(tmp_path / "dump.dat", GOOD)

    result = build(path, "-o", tmp_path / "i", "--format", "jsonl", "--json")

    assert json.loads(result.stdout)["passages"] == 2


def test_stdin_is_read_as_json_lines(tmp_path):
    result = build("-", "-o", tmp_path / "i", "--json", stdin=GOOD)

    assert json.loads(result.stdout)["passages"] == 2


@pytest.mark.parametrize("query", ["", " \n", "\ud800"])
def test_a_query_without_a_word_is_a_usage_error(published, query):
    result = run("index", "search", published, query)

    assert result.exit_code == 2
    assert "a query is empty: give at least one word" in result.stderr


@pytest.mark.parametrize("k", [0, -1, 10**9])
def test_a_senseless_number_of_hits_is_a_usage_error(published, k):
    result = run("index", "search", published, "wing", "-k", k)

    assert result.exit_code == 2
    assert "k must be a whole number from 1 to 10000" in result.stderr


@pytest.mark.parametrize("flags", [["-k", 0], ["--num-queries", 0], ["--seed", -1]])
def test_a_senseless_check_is_a_usage_error(published, flags):
    result = run("index", "check", published, *flags)

    assert result.exit_code == 2
    assert "must be at least" in result.stderr
