"""Links lead somewhere, commands exist, and the site builds."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
QUOTED = re.compile(r"^```.*?^```$|`[^`]+`", re.MULTILINE | re.DOTALL)
MAKE = re.compile(r"\bmake ([a-z]+)\b")
TARGET = re.compile(r"^([a-z]+):", re.MULTILINE)
TARGETS = set(TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page):
    links = LINK.findall(page.read_text(encoding="utf-8"))

    local = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_on_a_page_exist(page):
    quoted = QUOTED.findall(page.read_text(encoding="utf-8"))

    assert set(MAKE.findall("\n".join(quoted))) <= TARGETS


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_are_plain_ascii(page):
    assert page.read_text(encoding="utf-8").isascii()


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("zensical")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    build = [sys.executable, "-m", "zensical", "build", "--strict"]

    ran = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (tmp_path / "site" / "architecture" / "index.html").is_file()
