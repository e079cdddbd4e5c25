"""Settings and fixtures that every test sees."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]

# No test waits for a model hub; `HF_HUB_OFFLINE=0 pytest -m network` lets those that want one.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Shared cores make deadlines flake; in CI the examples are the same in every run.
settings.register_profile("ragkit", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("ragkit")


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden", action="store_true", help="write what was found instead of comparing"
    )


@pytest.fixture
def update_golden(request):
    """Whether to rewrite golden files; the commit message then says why they changed."""
    return request.config.getoption("--update-golden")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    # Last, after `-m` has dropped what is not run: torch is slow to import.
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu:
        import torch

        if not torch.cuda.is_available():
            for item in on_gpu:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def data_dir():
    """The folder that docs/data.md describes; tests of real data skip without it."""
    candidates = [ROOT.parent / "shared" / "data", ROOT / "data"]
    if "RAGKIT_DATA" in os.environ:
        candidates = [Path(os.environ["RAGKIT_DATA"])]
    for folder in candidates:
        if folder.is_dir():
            return folder
    pytest.skip("no data: lay it out as docs/data.md says, or set RAGKIT_DATA")
