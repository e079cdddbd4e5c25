"""Where each file of an index directory lies."""

import os
import time
from pathlib import Path

from ragkit.errors import ConfigError, IndexCorruptError, IndexStateError

ID_LENGTH = 26

MARKER = "RAGKIT"
MARKER_TEXT = "This folder is an index of ragkit: change it with the command ragkit only.\n"

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Layout:
    """The paths below one index directory; see docs/index-format.md."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.marker = root / MARKER
        self.current = root / "CURRENT"
        self.lock = root / "LOCK"
        self.generations = root / "gen"
        self.segments = root / "seg"
        self.builds = root / "build"
        self.rejects = root / "rejects"

    def manifest(self, generation: int) -> Path:
        """The manifest of a generation."""
        return self.generations / f"{generation:06d}.json"

    def segment(self, segment_id: str) -> Path:
        """The folder of a segment."""
        return self.segments / segment_id

    def is_index(self) -> bool:
        """Whether something was published here."""
        return self.current.is_file()

    def is_ours(self) -> bool:
        """Whether the folder may be written to: absent, empty, or marked as an index."""
        if not self.root.exists():
            return True
        # The mark is looked for last: a build that starts now writes it before anything else.
        return self.root.is_dir() and (not any(self.root.iterdir()) or self.marker.is_file())

    def require_ours(self) -> None:
        """Refuse a folder that holds something else: other programs have a CURRENT or build/, too.

        Raises:
            ConfigError: It is a file, or a folder of other things; nothing was touched.
        """
        if not self.is_ours():
            raise ConfigError(
                f"{self.root} exists and is not a ragkit index (it has no file {MARKER}); nothing "
                "was touched: choose another output path"
            )

    def require_index(self) -> None:
        """Refuse a path where nothing was published.

        Raises:
            ConfigError: There is no such path.
            IndexStateError: The path is there, but nothing was published in it.
            IndexCorruptError: Something was published, but CURRENT is gone.
        """
        if self.is_index():
            return
        if not self.root.exists():
            raise ConfigError(
                f"no index at {self.root}: build one with `build-index ... -o {self.root}`"
            )
        if self.builds.is_dir():
            hint = "run the same `build-index` command again to finish it"
        elif self.known_generations():
            raise self.lost_pointer()
        else:
            hint = "build one with `build-index`"
        raise IndexStateError(f"{self.root} has no published generation (no file CURRENT): {hint}")

    def lost_pointer(self) -> IndexCorruptError:
        """The error that says what can be done without CURRENT."""
        known = self.known_generations() or "none"
        return IndexCorruptError(
            f"{self.current} is missing; generations on disk: {known}; restore CURRENT from a "
            "copy, or rebuild with --overwrite"
        )

    def known_generations(self) -> str:
        """The generations whose manifest is on the disk, for messages."""
        return ", ".join(sorted(path.stem for path in self.generations.glob("*.json")))


def is_segment_id(name: str) -> bool:
    """Whether `new_segment_id` may have made this name."""
    return len(name) == ID_LENGTH and set(name) <= set(_CROCKFORD)


def new_segment_id() -> str:
    """A name that sorts by time: milliseconds, then 80 random bits, in Crockford's base 32."""
    number = time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10))
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
