import dataclasses
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import ConfigError, IndexCorruptError, IndexStateError
from ragkit.index.layout import Layout
from ragkit.index.manifest import (
    FileEntry,
    Manifest,
    SegmentEntry,
    check_path,
    publish,
    read_current,
)


def manifest(generation=1, **changed):
    file = FileEntry("seg/A/passages.arrow", 3, "00")
    fields = {
        "generation": generation,
        "parent": None,
        "uuid": "u",
        "created": "2026-01-01T00:00:00Z",
        "versions": {},
        "dim": 5,
        "metric": "cosine",
        "vector_dtype": "f16",
        "model": {"name": "hash:5"},
        "settings": {},
        "input_hash": "",
        "content_hash": "",
        "sources": ({"uri": "a.jsonl"},),
        "counts": {"documents": 7},
        "segments": (SegmentEntry("A", 7, 0, (file,)), SegmentEntry("B", 4, 7, ())),
        "ann": {"factory": "exact"},
        "quality": {},
        "canary": FileEntry("gen/000001.canary.f32", 2, "11"),
        "build": {},
    }
    return Manifest(**(fields | changed))


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path / "my.index")
    layout.generations.mkdir(parents=True)
    return layout


def test_what_was_published_is_read_back(layout):
    publish(layout, manifest())

    found = read_current(layout)

    assert found == manifest()
    assert found.num_passages == 11
    assert [file.path for file in found.files] == ["seg/A/passages.arrow", "gen/000001.canary.f32"]


def test_the_newest_generation_is_current_and_the_old_one_stays(layout):
    publish(layout, manifest(1))
    publish(layout, manifest(2))

    assert read_current(layout).generation == 2
    assert read_current(layout, generation=1).generation == 1
    with pytest.raises(IndexStateError, match="no generation 3, current is 2"):
        read_current(layout, generation=3)


def test_every_flipped_byte_of_current_is_noticed(layout):
    publish(layout, manifest())
    whole = layout.current.read_bytes()

    for place in range(len(whole)):
        for flip in (0x01, 0x20, 0xFF):
            damaged = bytearray(whole)
            damaged[place] ^= flip
            layout.current.write_bytes(damaged)
            with pytest.raises(IndexCorruptError, match=r"copy|rebuild"):
                read_current(layout)


@given(place=st.integers(0, 300), flip=st.integers(1, 255))
def test_a_flipped_byte_of_the_manifest_is_noticed(tmp_path_factory, place, flip):
    layout = Layout(tmp_path_factory.mktemp("flip"))
    layout.generations.mkdir()
    publish(layout, manifest())
    damaged = bytearray(layout.manifest(1).read_bytes())
    damaged[place % len(damaged)] ^= flip
    layout.manifest(1).write_bytes(damaged)

    with pytest.raises(IndexCorruptError, match="is damaged: its sha256"):
        read_current(layout)


def test_a_missing_manifest_is_named(layout):
    publish(layout, manifest())
    layout.manifest(1).unlink()

    with pytest.raises(IndexCorruptError, match=r"000001\.json cannot be read"):
        read_current(layout)


def rewrite(layout, change):
    """Publish a manifest that was edited on purpose, with the hash that belongs to it."""
    tree = json.loads(layout.manifest(1).read_bytes())
    change(tree)
    body = json.dumps(tree).encode()
    layout.manifest(1).write_bytes(body)
    pointer = json.loads(layout.current.read_bytes())
    pointer["sha256"] = hashlib.sha256(body).hexdigest()
    layout.current.write_bytes(json.dumps(pointer).encode() + b"\n")


def test_a_newer_major_version_is_refused_with_the_upgrade(layout):
    publish(layout, manifest())
    rewrite(layout, lambda tree: tree.update(format_version="2.0"))

    with pytest.raises(IndexStateError, match="pip install -U ragkit"):
        read_current(layout)


def test_fields_of_a_newer_minor_version_are_ignored(layout):
    publish(layout, manifest())
    rewrite(layout, lambda tree: tree.update(format_version="1.9", colour="blue"))

    assert read_current(layout) == dataclasses.replace(manifest(), format_version="1.9")


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../../etc/passwd", "seg/../../x", "", "C:/x", "seg\\x"]
)
def test_a_path_out_of_the_index_is_refused(layout, path):
    publish(layout, manifest())
    rewrite(layout, lambda tree: tree["segments"][0]["files"][0].update(path=path))

    with pytest.raises(IndexCorruptError, match="do not open this index"):
        read_current(layout)


def test_a_path_below_the_index_is_taken():
    assert check_path("seg/A/ann.faiss") == "seg/A/ann.faiss"


def test_deep_nesting_is_refused(layout):
    publish(layout, manifest())
    body = b"[" * 100_000
    layout.manifest(1).write_bytes(body)
    pointer = json.loads(layout.current.read_bytes())
    pointer["sha256"] = hashlib.sha256(body).hexdigest()
    layout.current.write_bytes(json.dumps(pointer).encode() + b"\n")

    with pytest.raises(IndexCorruptError, match="is not a manifest"):
        read_current(layout)


def test_no_path_no_index_and_nothing_published_are_told_apart(tmp_path):
    with pytest.raises(ConfigError, match="build one with `build-index"):
        read_current(Layout(tmp_path / "absent"))
    with pytest.raises(IndexStateError, match=r"no published generation.*build one"):
        read_current(Layout(tmp_path))
    (tmp_path / "build").mkdir()
    with pytest.raises(IndexStateError, match="run the same `build-index` command again"):
        read_current(Layout(tmp_path))


def test_a_folder_of_other_things_is_never_written_to(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")

    with pytest.raises(ConfigError, match="nothing was touched: choose another output path"):
        Layout(tmp_path).require_ours()
    with pytest.raises(ConfigError, match="is not a ragkit index"):
        Layout(tmp_path / "thesis.tex").require_ours()
