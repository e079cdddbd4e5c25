"""Text that every machine has: the docstrings of Python's standard library, and five questions.

The source files are parsed, never imported, so that reading them runs no code of theirs.
"""

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from ragkit.types import Document

MIN_WORDS = 6
"""Shorter docstrings say little more than the name ("Return the value.")."""
SKIPPED = frozenset(
    {
        "dist-packages",
        "encodings",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "test",
        "tests",
        "turtledemo",
    }
)
"""Folders that hold tests, programs, generated tables or what is not the standard library."""

QUESTIONS = (
    ("How much room is left on my hard drive?", "shutil.disk_usage"),
    (
        "I drove there fast and came back slowly: what was my average speed?",
        "statistics.harmonic_mean",
    ),
    ("I have the red, green and blue of a pixel: what is its hue?", "colorsys"),
    (
        "How many processors does this machine have?",
        "multiprocessing.context.BaseContext.cpu_count",
    ),
    ("I need a scratch folder that disappears when I am done", "tempfile.TemporaryDirectory"),
)
"""Each question with the id of the document that answers it; all exist since Python 3.11."""

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def stdlib_documents(root: Path | None = None) -> Iterator[Document]:
    """The public docstrings below `root` in the order of their files; equal ones come once.

    A document's id and title are the dotted name of what it describes: `textwrap.dedent`.

    Args:
        root: A folder of modules and packages; if `None`, the running Python's standard library.
    """
    root = root or Path(sysconfig.get_path("stdlib"))
    ids: set[str] = set()
    texts: set[str] = set()
    for path in sorted(root.rglob("*.py")):
        module = _public_module(path.relative_to(root))
        if module is None:
            continue
        for name, text in _docstrings(ast.parse(path.read_bytes()), module):
            # A name may be defined twice: once per platform, or as the setter of a property.
            if len(text.split()) >= MIN_WORDS and name not in ids and text not in texts:
                ids.add(name)
                texts.add(text)
                yield Document(id=name, title=name, text=text, source=str(path))


def _public_module(path: Path) -> str | None:
    """The dotted name of the module at `path`; `None` if it is private or skipped."""
    *packages, last = path.with_suffix("").parts
    parts = packages if last == "__init__" else [*packages, last]
    public = all(part.isidentifier() and not part.startswith("_") for part in parts)
    return ".".join(parts) if parts and public and SKIPPED.isdisjoint(parts) else None


def _docstrings(node: ast.Module | Definition, name: str) -> Iterator[tuple[str, str]]:
    """Name and docstring of `node` and of the public classes and functions in it."""
    if text := ast.get_docstring(node):
        yield name, text
    if isinstance(node, ast.Module | ast.ClassDef):
        for inner in _definitions(node):
            if not inner.name.startswith("_"):
                yield from _docstrings(inner, f"{name}.{inner.name}")


def _definitions(node: ast.AST) -> Iterator[Definition]:
    """The classes and functions directly in `node`, also below its `if` and `try`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition):
            yield child
        elif isinstance(child, ast.stmt | ast.ExceptHandler):
            yield from _definitions(child)
