"""The folder of a build that is under way: its settings, parts and journal. Readers never look."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ragkit.differences import differences
from ragkit.errors import IndexStateError
from ragkit.index.journal import Journal
from ragkit.index.layout import Layout, new_segment_id
from ragkit.storage import durable_file, make_folder

Resume = Literal["auto", "never", "require"]


class Workspace:
    """What a build keeps between a kill and the next run of the same command.

    Args:
        folder: `build/<id>` of the index.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name
        self.parts = folder / "parts"
        self.segment = folder / "segment"
        self.journal = Journal(folder / "journal.jsonl")

    @classmethod
    def open(cls, layout: Layout, settings: Mapping[str, Any], *, resume: Resume) -> "Workspace":
        """The unfinished build with these settings, or a new one.

        Args:
            settings: Whatever decides the vectors, as JSON values; a build goes on only with
                the same ones.
            resume: `never` throws an unfinished build away, `require` wants one.

        Raises:
            IndexStateError: The unfinished build has other settings (the message lists them), or
                there is none and one is required.
        """
        unfinished = None if resume == "never" else _unfinished(layout)
        if unfinished is None and resume == "require":
            raise IndexStateError(f"{layout.root} has no unfinished build: drop --resume require")
        if unfinished is not None:
            _require_same(unfinished, settings)
            return cls(unfinished)
        clear(layout)
        workspace = cls(layout.builds / new_segment_id())
        make_folder(workspace.parts)
        with durable_file(workspace.folder / "settings.json") as file:
            file.write(json.dumps(settings, indent=1, sort_keys=True).encode())
        return workspace

    def fresh_segment(self) -> Path:
        """An empty folder for the segment's files."""
        shutil.rmtree(self.segment, ignore_errors=True)
        make_folder(self.segment)
        return self.segment


def clear(layout: Layout) -> None:
    """Remove every build folder."""
    shutil.rmtree(layout.builds, ignore_errors=True)


def _unfinished(layout: Layout) -> Path | None:
    """The build folder with something worth keeping; one killed earlier holds nothing."""
    found = sorted(layout.builds.glob("*/journal.jsonl"))
    return found[-1].parent if found else None


def _require_same(folder: Path, settings: Mapping[str, Any]) -> None:
    try:
        before = json.loads((folder / "settings.json").read_bytes())
    except ValueError as error:
        raise IndexStateError(
            f"{folder / 'settings.json'} is damaged: pass --restart to throw that build away"
        ) from error
    changed = differences(before, json.loads(json.dumps(settings)))
    if changed:
        raise IndexStateError(
            "\n".join(
                [
                    "an unfinished build with other settings is here:",
                    *changed,
                    "repeat the old command to finish it, or pass --restart to throw it away",
                ]
            )
        )
