"""Every file of an index, damaged in turn: the reader is told which, and never crashes."""

import hashlib
import json
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from ragkit.errors import IndexCorruptError
from ragkit.index.layout import Layout
from ragkit.index.manifest import read_current
from ragkit.retrieval.build import build_index
from ragkit.retrieval.retriever import Retriever
from tests.cli.running import run
from tests.faults.opening import try_to_search

pytestmark = pytest.mark.slow

POINTERS = ("CURRENT", "gen/000002.json")
FILES = (
    *POINTERS,
    "gen/000002.canary.f32",
    "seg/ann.faiss",
    "seg/keys.arrow",
    "seg/passages.arrow",
    "seg/segment.json",
    "seg/vectors.f16",
)
DAMAGES = {
    "one byte less": lambda body: body[:-1],
    "half of it": lambda body: body[: len(body) // 2],
    "empty": lambda body: b"",
    "one byte more": lambda body: body + b"\0",
    "deleted": None,
}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """An index with all kinds of files; generation 2 is current, 1 is exact and older."""
    folder = tmp_path_factory.mktemp("published")
    rows = [{"id": str(i), "text": f"passage {i} {i * i % 97}"} for i in range(700)]
    corpus = folder / "c.jsonl"
    corpus.write_text("\n".join(map(json.dumps, rows)))
    build_index(corpus, folder / "i", encoder="hash:16")
    build_index(corpus, folder / "i", encoder="hash:16", ann="IVF8,Flat", overwrite=True)
    named = {shorten(file.path) for file in read_current(Layout(folder / "i")).files}
    assert named | {"CURRENT", "gen/000002.json"} == set(FILES)
    return folder / "i"


@pytest.fixture
def index(published, tmp_path):
    """A copy to damage."""
    return shutil.copytree(published, tmp_path / "i")


@pytest.fixture(scope="module")
def elsewhere():
    """Runs functions in another process: if that crashes, the test fails and the others go on."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield lambda *call: pool.submit(*call).result()


def shorten(path):
    """The path without the name of the segment."""
    return f"seg/{Path(path).name}" if path.startswith("seg/") else path


def find(index, name):
    """The file of the current generation with this short name."""
    if not name.startswith("seg/"):
        return index / name
    [entry] = read_current(Layout(index)).segments
    return index / "seg" / entry.id / Path(name).name


def assert_verify_names(index, path):
    __tracebackhide__ = True
    result = run("index", "verify", index, "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["ok"]) == (5, False)
    assert any(fault["file"] == str(path.relative_to(index)) for fault in found["faults"]), found
    assert all(fault["reason"] for fault in found["faults"])


def flip(path, place):
    """Change one byte of a file."""
    body = bytearray(path.read_bytes())
    body[place] ^= 0x10
    path.write_bytes(body)


@pytest.mark.parametrize("share", [0, 0.37, 1])
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_found_and_named(index, name, share):
    path = find(index, name)

    flip(path, round(share * (path.stat().st_size - 1)))

    assert_verify_names(index, path)
    with pytest.raises(IndexCorruptError, match=path.name):
        Retriever.open(index, verify="full")
    if name in (*POINTERS, "seg/segment.json"):
        with pytest.raises(IndexCorruptError, match=path.name):
            Retriever.open(index)


@pytest.mark.parametrize("name", POINTERS)
def test_every_byte_of_what_points_to_the_files_counts(index, name):
    path = find(index, name)

    for place in range(path.stat().st_size):
        flip(path, place)
        # Where the hash in CURRENT is wrong, the manifest may be as well: both are named.
        with pytest.raises(IndexCorruptError, match=path.name):
            Retriever.open(index, with_encoder=False)
        flip(path, place)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_size_is_found_before_it_is_mapped(elsewhere, index, name, damage):
    path = find(index, name)
    if DAMAGES[damage] is None:
        path.unlink()
    else:
        path.write_bytes(DAMAGES[damage](path.read_bytes()))

    opened = {verify: elsewhere(try_to_search, index, verify) for verify in ("fast", "full")}

    assert_verify_names(index, path)
    for verify, (error, message) in opened.items():
        if name == "gen/000002.canary.f32" and verify == "fast":
            assert error == "ok"  # only the encoder needs it
        else:
            assert error == "IndexCorruptError"
            assert path.name in message


@pytest.mark.parametrize("name", ["seg/ann.faiss", "seg/keys.arrow", "seg/passages.arrow"])
@pytest.mark.parametrize(
    ("verify", "expected"), [("fast", {"IndexCorruptError"}), ("off", {"ok", "IndexCorruptError"})]
)
def test_damaged_structure_of_a_small_index_is_found(elsewhere, index, name, verify, expected):
    path = find(index, name)
    told = set()

    for place in [*range(0, 300, 5), *range(-1200, 0, 5)]:
        flip(path, place)
        told.add(elsewhere(try_to_search, index, verify)[0])
        flip(path, place)

    assert told == expected


def test_a_damaged_canary_is_found_when_the_encoder_is_checked(index):
    find(index, "gen/000002.canary.f32").write_bytes(b"")

    with pytest.raises(IndexCorruptError, match=r"canary\.f32 is missing or damaged: restore"):
        Retriever.open(index)


@pytest.mark.parametrize("name", ["seg/passages.arrow", "seg/vectors.f16", "seg/ann.faiss"])
def test_the_previous_generation_is_still_there(index, name):
    find(index, name).write_bytes(b"")

    with pytest.raises(IndexCorruptError, match=f"{Path(name).name} has 0 bytes"):
        Retriever.open(index)
    with Retriever.open(index, generation=1, verify="full") as retriever:
        assert len(retriever) == 700


def test_a_damaged_index_is_rebuilt_by_the_command_that_the_message_names(index, published):
    corpus = published.parent / "c.jsonl"
    (index / "CURRENT").unlink()

    refused = run("index", "search", index, "passage 7")
    rebuilt = run("index", "build", corpus, "-o", index, "--encoder", "hash:16", "--overwrite")

    assert refused.exit_code == 5
    assert "generations on disk: 000001, 000002" in refused.stderr
    assert "rebuild with --overwrite" in refused.stderr
    assert rebuilt.exit_code == 0
    assert run("index", "verify", index).exit_code == 0
    assert read_current(Layout(index)).generation == 3


def test_a_rebuild_that_fails_removes_no_published_file(index, tmp_path):
    before = {path.relative_to(index) for path in index.rglob("*") if path.is_file()}
    (index / "CURRENT").unlink()

    arguments = ("index", "build", tmp_path / "none", "-o", index, "--encoder", "hash:16")
    result = run(*arguments, "--overwrite")

    assert result.exit_code == 3
    left = {path.relative_to(index) for path in index.rglob("*") if path.is_file()}
    assert before - left == {Path("CURRENT")}


def test_a_file_of_another_index_is_found(index, tmp_path):
    rows = [json.dumps({"id": str(i), "text": f"other {i}"}) for i in range(700)]
    (tmp_path / "o.jsonl").write_text("\n".join(rows))
    build_index(tmp_path / "o.jsonl", tmp_path / "o", encoder="hash:16", ann="IVF8,Flat")
    [other] = (tmp_path / "o").glob("seg/*/ann.faiss")
    path = find(index, "seg/ann.faiss")

    shutil.copy(other, path)

    assert_verify_names(index, path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"seg/', '"../seg/'),
        ('"seg/', '"/etc/'),
        ('"rows": 700', '"rows": 10000000000'),
        ('"rows": 700', '"rows": "many"'),
        ('"segments": [', '"segments": ' + "[" * 10_000),
    ],
)
def test_a_forged_manifest_is_refused(elsewhere, index, old, new):
    path = find(index, "gen/000002.json")
    body = path.read_text().replace(old, new).encode()
    path.write_bytes(body)
    republish(index, body)

    error, message = elsewhere(try_to_search, index, "fast")

    assert error == "IndexCorruptError"
    assert message


def republish(index, body):
    """Let CURRENT name the manifest as it is now, as a forger would."""
    line = json.loads((index / "CURRENT").read_text())
    line["sha256"] = hashlib.sha256(body).hexdigest()
    (index / "CURRENT").write_text(json.dumps(line) + "\n")
