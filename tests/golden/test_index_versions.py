"""Every version of the index format opens, or is refused with the command that upgrades it.

`pytest tests/golden --update-golden` builds the index of the current version anew; those of older
versions stay as they are.
"""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

import ragkit
from ragkit.errors import IndexStateError
from ragkit.index.manifest import FORMAT_VERSION
from ragkit.retrieval.build import build_index
from ragkit.retrieval.retriever import Retriever
from tests.cli.running import run

GOLDEN = Path(__file__).parent
FOUND = {path.name.removeprefix("index-") for path in GOLDEN.glob("index-*")}
VERSIONS = sorted({FORMAT_VERSION, *FOUND})
MAX_BYTES = 40_000
TITLE = "Aerodynamics"
TEXTS = {
    "drag": "The drag of a slender body at high speed.",
    "flow": "Heat flow through a thin wall, caf\u00e9 included.",
    "layer": "A boundary layer grows along the plate.",
    "shock": "Shock waves stand before the blunt nose.",
    "wing": "The wing of a plane carries its weight.",
}


@pytest.fixture(scope="module")
def golden(request, tmp_path_factory):
    """The folder of golden indexes, the current one rebuilt first if that was asked for."""
    if request.config.getoption("--update-golden"):
        rebuild(tmp_path_factory.mktemp("golden"))
    return GOLDEN


def rebuild(folder):
    rows = [
        {"id": name, "title": TITLE, "text": TEXTS[name], "n": n} for n, name in enumerate(TEXTS)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # so that no path of this machine is stored
        Path("corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
        build_index("corpus.jsonl", "i", encoder="hash:32", ann="HNSW4", recall="1@3")
    (folder / "i" / "LOCK").unlink()
    edit_manifest(folder / "i", versions={"ragkit": ragkit.__version__})
    target = GOLDEN / f"index-{FORMAT_VERSION}"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder / "i", target)


@pytest.fixture
def index(golden, tmp_path):
    """A copy, since opening must work where nothing may be written, and damage must not stay."""
    return shutil.copytree(golden / f"index-{FORMAT_VERSION}", tmp_path / "i")


def edit_manifest(index, **changes):
    """Change fields of the current manifest as another version of ragkit would have written it."""
    line = json.loads((index / "CURRENT").read_text())
    path = index / line["manifest"]
    body = json.dumps({**json.loads(path.read_text()), **changes}).encode()
    path.write_bytes(body)
    line["sha256"] = hashlib.sha256(body).hexdigest()
    (index / "CURRENT").write_text(json.dumps(line) + "\n")


def test_there_is_an_index_of_the_current_version(golden):
    assert (golden / f"index-{FORMAT_VERSION}" / "CURRENT").is_file()
    files = [path for path in golden.rglob("index-*/**/*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MAX_BYTES


@pytest.mark.parametrize("version", VERSIONS)
def test_an_index_of_this_version_is_read_and_searched(golden, version):
    path = golden / f"index-{version}"

    with Retriever.open(path, verify="full") as retriever:
        found = retriever.get([*TEXTS, "none"])
        best = [retriever.search(f"{TITLE} {text}", k=2)[0] for text in TEXTS.values()]

    assert run("index", "verify", path).exit_code == 0
    assert {passage.id: passage.text for passage in found[:-1]} == TEXTS
    assert [passage.meta for passage in found[:-1]] == [{"n": n} for n in range(len(TEXTS))]
    assert found[-1] is None
    assert [hit.id for hit in best] == list(TEXTS)
    assert min(hit.score for hit in best) == pytest.approx(1, abs=1e-3)  # vectors are fp16


def test_a_newer_major_version_is_refused_with_the_command_that_upgrades(index):
    edit_manifest(index, format_version="2.0")

    with pytest.raises(IndexStateError, match="upgrade with `pip install -U ragkit`"):
        Retriever.open(index)

    for command in ("info", "verify"):
        result = run("index", command, index)
        assert result.exit_code == 4
        assert "format version 2.0, this ragkit reads up to 1.0" in result.stderr


def test_a_newer_minor_version_only_adds(index):
    edit_manifest(index, format_version="1.9", new_field={"of": "a later ragkit"})

    with Retriever.open(index) as retriever:
        assert len(retriever) == len(TEXTS)
