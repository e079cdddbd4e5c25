import json
import shutil

import pytest

from ragkit.errors import IndexCorruptError, StorageError
from ragkit.index.layout import Layout, new_segment_id
from ragkit.index.manifest import generations
from ragkit.index.reader import Index
from ragkit.index.verify import verify_index
from ragkit.retrieval.build import build_index


@pytest.fixture(scope="module")
def two_generations(corpus, tmp_path_factory):
    """Generation 1 holds vectors of 8 numbers, the current one of 16."""
    path = tmp_path_factory.mktemp("two") / "i"
    build_index(corpus, path, encoder="hash:8")
    build_index(corpus, path, encoder="hash:16", overwrite=True)
    return path


@pytest.fixture
def layout(two_generations, tmp_path):
    """A copy to damage."""
    return Layout(shutil.copytree(two_generations, tmp_path / "i"))


def leave_killed_build(layout):
    """What a build leaves that was killed before it wrote its manifest; its segment."""
    (layout.builds / new_segment_id()).mkdir(parents=True)
    # Ids of the same millisecond are in no order.
    segment = layout.segment("Z" + new_segment_id()[1:])
    segment.mkdir()
    return segment


def rebuild(layout, corpus):
    return build_index(corpus, layout.root, encoder="hash:24", overwrite=True).manifest


def test_only_the_segment_of_the_killed_build_is_removed(corpus, layout):
    killed = leave_killed_build(layout)

    rebuild(layout, corpus)

    assert not killed.exists()
    assert [Index.open(layout.root, generation=g).dim for g in (1, 2, 3)] == [8, 16, 24]


def test_the_segment_of_a_lost_manifest_stays_when_a_killed_build_is_undone(corpus, layout):
    killed = leave_killed_build(layout)
    saved = layout.manifest(1).rename(layout.root / "saved")

    rebuild(layout, corpus)

    saved.rename(layout.manifest(1))
    assert verify_index(layout.root, generation=1) == []
    assert not killed.exists()


@pytest.mark.parametrize("generation", [1, 2])
def test_nothing_is_removed_while_a_manifest_is_damaged(corpus, layout, generation):
    killed = leave_killed_build(layout)
    whole = layout.manifest(generation).read_bytes()
    layout.manifest(generation).write_bytes(whole[:-9])

    rebuild(layout, corpus)

    layout.manifest(generation).write_bytes(whole)
    assert killed.exists()
    assert verify_index(layout.root, generation=generation) == []


def test_what_cannot_be_tidied_is_a_storage_error(corpus, layout):
    killed = leave_killed_build(layout)
    killed.rmdir()
    killed.touch()

    with pytest.raises(StorageError, match=rf"cannot remove .*{killed.name}: .*: check the path"):
        rebuild(layout, corpus)


@pytest.mark.parametrize("lost", [(), (1,), (2,), (1, 2)])
def test_an_index_without_current_needs_overwrite(corpus, layout, lost):
    layout.current.unlink()
    for generation in lost:
        layout.manifest(generation).unlink()
    before = {path for path in layout.root.rglob("*") if path.name != "LOCK"}

    with pytest.raises(IndexCorruptError, match=r"restore CURRENT from a copy, or .* --overwrite"):
        build_index(corpus, layout.root, encoder="hash:16")

    assert before <= set(layout.root.rglob("*"))
    assert not layout.builds.exists()


def test_an_overwrite_without_current_removes_nothing(corpus, layout):
    pointer = json.loads(layout.current.read_bytes())
    layout.current.unlink()
    # Generation 2 looks like one that was never published: it may have been.
    workspace = json.loads(layout.manifest(2).read_bytes())["build"]["workspace"]
    (layout.builds / workspace).mkdir(parents=True)

    manifest = rebuild(layout, corpus)

    assert manifest.generation == pointer["generation"] + 1
    assert [Index.open(layout.root, generation=g).dim for g in (1, 2, 3)] == [8, 16, 24]


def test_a_first_build_that_was_killed_before_it_published_needs_no_overwrite(corpus, tmp_path):
    first = build_index(corpus, tmp_path / "i", encoder="hash:8")
    layout = Layout(first.path)
    layout.current.unlink()
    (layout.builds / first.manifest.build["workspace"]).mkdir(parents=True)

    again = build_index(corpus, tmp_path / "i", encoder="hash:8")

    assert again.content_hash == first.content_hash
    assert generations(layout) == [1]
    assert [path.name for path in layout.segments.iterdir()] == [again.manifest.segments[0].id]
