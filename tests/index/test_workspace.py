import pytest

from ragkit.errors import IndexStateError
from ragkit.index.layout import Layout
from ragkit.index.workspace import Workspace, clear

SETTINGS = {"model": {"name": "hash:5"}, "chunk": "words:100"}


def test_the_same_settings_go_on_with_the_unfinished_build(tmp_path):
    first = Workspace.open(Layout(tmp_path), SETTINGS, resume="auto")
    first.journal.append({"key": "a"})

    again = Workspace.open(Layout(tmp_path), SETTINGS, resume="auto")

    assert again.folder == first.folder
    assert again.journal.read() == [{"key": "a"}]


def test_other_settings_are_listed_one_by_one(tmp_path):
    Workspace.open(Layout(tmp_path), SETTINGS, resume="auto").journal.append({"key": "a"})

    with pytest.raises(
        IndexStateError, match=r"chunk: 'words:100' then, 'none' now\n.*--restart"
    ) as caught:
        Workspace.open(Layout(tmp_path), {**SETTINGS, "chunk": "none"}, resume="auto")

    assert "model" not in str(caught.value)


def test_never_starts_anew_and_require_wants_something(tmp_path):
    first = Workspace.open(Layout(tmp_path), SETTINGS, resume="auto")
    first.journal.append({"key": "a"})

    assert Workspace.open(Layout(tmp_path), SETTINGS, resume="never").journal.read() == []
    clear(Layout(tmp_path))
    with pytest.raises(IndexStateError, match="drop --resume require"):
        Workspace.open(Layout(tmp_path), SETTINGS, resume="require")


def test_a_build_killed_before_anything_was_embedded_is_no_build(tmp_path):
    (tmp_path / "build" / "01ABC" / "parts").mkdir(parents=True)
    (tmp_path / "build" / "01ABC" / "settings.json").write_text("{}")

    workspace = Workspace.open(Layout(tmp_path), SETTINGS, resume="auto")

    assert workspace.id != "01ABC"
    assert not (tmp_path / "build" / "01ABC").exists()


def test_a_fresh_segment_is_empty(tmp_path):
    workspace = Workspace.open(Layout(tmp_path), SETTINGS, resume="auto")
    (workspace.fresh_segment() / "left over").touch()

    assert list(workspace.fresh_segment().iterdir()) == []
