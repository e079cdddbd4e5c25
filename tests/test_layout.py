"""The tree on disk is what pyproject.toml says, and stays light and small."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
FOLDERS = SETUPTOOLS["package-dir"].values()
MODULES = sorted({path.resolve() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")})
MAX_LINES = 400


def packages_on_disk():
    for name, folder in SETUPTOOLS["package-dir"].items():
        yield name
        for init in (ROOT / folder).rglob("*/__init__.py"):
            sub = init.parent.relative_to(ROOT / folder)
            if not any((ROOT / folder / part).is_symlink() for part in [sub, *sub.parents]):
                yield f"{name}.{'.'.join(sub.parts)}"


def test_every_package_is_listed():
    assert sorted(SETUPTOOLS["packages"]) == sorted(packages_on_disk())


@pytest.mark.parametrize("folder", ["index", "finetune", "recipes"])
def test_a_link_shows_the_folder_in_the_package(folder):
    assert (ROOT / "ragkit" / folder).readlink() == Path("..", folder)


@pytest.mark.parametrize("folder", ["index", "finetune"])
def test_a_bare_import_of_a_folder_says_what_to_write(folder):
    code = f"import {folder}"

    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert ran.returncode == 1
    assert f"write `import ragkit.{folder}`" in ran.stderr


def test_a_bare_import_is_light():
    heavy = {"torch", "faiss", "pydantic", "transformers", "numba"}
    code = f"import ragkit, ragkit.index, sys; print({heavy} & set(sys.modules))"

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (ran.returncode, ran.stdout) == (0, "set()\n")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_has_a_docstring_and_a_readable_length(path):
    source = path.read_text(encoding="utf-8")

    assert ast.get_docstring(ast.parse(source))
    assert len(source.splitlines()) <= MAX_LINES
    assert source.isascii()
