"""Which files the inputs name, in an order that is the same everywhere."""

import glob
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from ragkit.data.formats import (
    PROSE_FORMATS,
    RECORD_FORMATS,
    Format,
    detect_format,
    format_by_suffix,
    named_format,
)
from ragkit.data.huggingface import SCHEME, is_saved_dataset
from ragkit.data.options import ReadOptions
from ragkit.data.streams import unreadable
from ragkit.data.text import clean
from ragkit.errors import DataError

STDIN = "-"
IGNORE_FILE = ".ragkitignore"
BEIR_CORPUS = ("corpus.jsonl", "corpus.jsonl.gz", "corpus.jsonl.zst", "corpus.jsonl.bz2")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Input:
    """One thing to read.

    Args:
        uri: As messages and sources name it: the path, `-` or `hf:...`.
        path: `None` for stdin and `hf:...`.
        format: `None` for a Hugging Face dataset.
        label: Names the file in ids, unique among the inputs: its path below the folder that was
            given, or its name.
    """

    uri: str
    path: Path | None
    format: Format | None
    label: str


def expand(inputs: Sequence[str], *, options: ReadOptions) -> list[Input]:
    """All that is to be read: the inputs in their order, a folder's files in order of their paths.

    Raises:
        ConfigError: The format that the options name is none.
        DataError: An input does not exist, or a folder or pattern holds nothing readable.
    """
    labels = _Labels()
    return [found for given in inputs for found in _expand(given, options, labels)]


def _expand(given: str, options: ReadOptions, labels: "_Labels") -> Iterator[Input]:
    named = named_format(options.format)
    if given.startswith(SCHEME):
        yield Input(given, None, None, given.removeprefix(SCHEME))
    elif given == STDIN:
        yield Input(STDIN, None, named or detect_format(None), "stdin")
    else:
        for path in _matches(given):
            if path.is_dir():
                yield from _folder(path, named, labels)
            else:
                yield _file(path, named or detect_format(path), labels.take(path.name, path))


def _matches(given: str) -> list[Path]:
    """The path itself, or what it matches as a pattern."""
    if os.path.lexists(given):
        return [Path(given)]
    if not glob.has_magic(given):
        hint = "URLs are not read: download it" if "://" in given else "check the path"
        raise DataError(f"{given}: no such file or folder: {hint}")
    found = sorted(glob.glob(given, recursive=True), key=os.fsencode)  # noqa: PTH207 - may be absolute
    if not found:
        raise DataError(
            f"{given}: the pattern matches no file: check it, and quote it in the shell"
        )
    return [Path(path) for path in found]


def _folder(root: Path, named: Format | None, labels: "_Labels") -> Iterator[Input]:
    corpus = next((root / name for name in BEIR_CORPUS if (root / name).is_file()), None)
    if corpus is not None:
        yield _file(corpus, "jsonl", labels.take(corpus.name, corpus))
        return
    if is_saved_dataset(root):
        yield Input(f"{SCHEME}{root}", None, None, root.name)
        return
    for path, kind in _choose(root, named):
        yield _file(path, kind, labels.take(path.relative_to(root).as_posix(), path))


def _file(path: Path, kind: Format, label: str) -> Input:
    # A name that is not UTF-8 comes with surrogates, which no store takes.
    return Input(clean(str(path))[0], path, kind, clean(label)[0])


def _choose(root: Path, named: Format | None) -> list[tuple[Path, Format]]:
    """The prose of a folder; its tables if there is no prose; or all files of the named format."""
    known = [(path, kind) for path in _walk(root) if (kind := format_by_suffix(path))]
    if named:
        same = {"dpr": "tsv", "msmarco": "tsv"}.get(named, named)
        chosen = [(path, named) for path, kind in known if kind == same]
    else:
        chosen = [(path, kind) for path, kind in known if kind in PROSE_FORMATS]
        tables = [(path, detect_format(path)) for path, kind in known if kind in RECORD_FORMATS]
        if chosen and tables:
            logger.warning(
                "%s: %d tables beside text files are not read: name them as inputs",
                root,
                len(tables),
            )
        chosen = chosen or tables
    if not chosen:
        raise DataError(
            f"{root}: no readable file in the folder: expected .txt .md .rst .html .pdf .jsonl "
            ".csv .tsv or .parquet files, neither hidden nor ignored"
        )
    return chosen


def _walk(root: Path) -> list[Path]:
    """The visible files below `root`, in order of the bytes of their paths.

    Links are not followed: what they point to within `root` is met at its own place, and what lies
    outside does not belong to the corpus. So no loop can arise and no file is read twice.
    """
    ignored = _Ignored.read(root)
    found = []
    for folder, folders, names in os.walk(root, onerror=_raise):
        here = Path(folder)
        inside = PurePosixPath(here.relative_to(root).as_posix())
        folders[:] = [n for n in folders if not n.startswith(".") and not ignored(inside / n, True)]
        for name in names:
            path = here / name
            if name.startswith(".") or path.is_symlink() or not path.is_file():
                continue
            if not ignored(inside / name, False):
                found.append(path)
    return sorted(found, key=os.fsencode)


def _raise(error: OSError) -> None:
    raise unreadable(Path(str(error.filename)), error) from error


class _Ignored:
    """The patterns of a `.ragkitignore`: globs as in .gitignore, the last that matches decides."""

    def __init__(self, patterns: list[str]) -> None:
        self._patterns = patterns

    @classmethod
    def read(cls, root: Path) -> "_Ignored":
        path = root / IGNORE_FILE
        if not path.is_file():
            return cls([])
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise unreadable(path, error) from error
        return cls([line.strip() for line in lines if line.strip() and not line.startswith("#")])

    def __call__(self, path: PurePosixPath, is_folder: bool) -> bool:
        ignored = False
        for pattern in self._patterns:
            glob_part = pattern.removeprefix("!")
            if _matches_glob(path, glob_part, is_folder):
                ignored = not pattern.startswith("!")
        return ignored


def _matches_glob(path: PurePosixPath, pattern: str, is_folder: bool) -> bool:
    if pattern.endswith("/") and not is_folder:
        return False
    anchored = "/" in pattern.rstrip("/")
    pattern = pattern.strip("/")
    return fnmatchcase(str(path) if anchored else path.name, pattern)


class _Labels:
    """Short names of files, made longer by the folders above where two would be the same."""

    def __init__(self) -> None:
        self._paths: dict[str, Path] = {}

    def take(self, name: str, path: Path) -> str:
        """`name`, or the shortest longer end of `path` that no other file has."""
        whole = path.absolute()
        parts = whole.parts
        size = len(PurePosixPath(name).parts)
        while self._paths.setdefault(name, whole) != whole and size < len(parts):
            size += 1
            name = "/".join(parts[-size:])
        return name
