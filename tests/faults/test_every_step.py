"""A build is killed, or its disk is full, at each single change that it makes to its folder."""

import json
import os
import re
import subprocess
import sys

import pytest

from ragkit.retrieval.build import build_index
from tests.faults.processes import HERE

pytestmark = pytest.mark.slow

OLD = "the old wing\nthe old flow of heat\nold drag\nan old shock".splitlines()
NEW = "a new wing\na new flow of heat\nnew drag".splitlines()
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAGKIT_THREADS": "1"}
FLAGS = ["--encoder", "hash:16", "--part-rows", "2"]


def write(path, texts):
    rows = [json.dumps({"id": str(i), "text": text}) for i, text in enumerate(texts)]
    path.write_text("\n".join(rows))
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """An index of the old texts, and the content hash of the new ones."""
    folder = tmp_path_factory.mktemp("saved")
    old = build_index(write(folder / "old.jsonl", OLD), folder / "i", encoder="hash:16")
    new = build_index(write(folder / "new.jsonl", NEW), folder / "j", encoder="hash:16")
    return old.path, old.content_hash, new.content_hash


def disturb_every_step(how, tmp_path, saved, *flags):
    """The outcome of each try: a JSON line of `stepwise.py`."""
    arguments = ["index", "build", write(tmp_path / "new.jsonl", NEW), "-o", tmp_path / "i"]
    command = [sys.executable, HERE / "stepwise.py", how, tmp_path / "i", saved, "--", *arguments]
    command += [*FLAGS, *flags]
    result = subprocess.run(
        [str(one) for one in command],
        env={**os.environ, **ONE_THREAD},
        capture_output=True,
        text=True,
        check=True,
    )
    tries = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(tries) > 40
    assert tries[-1]["first"]["exit_code"] == 0
    return tries[:-1]


@pytest.mark.parametrize("how", ["kill", "fail"])
def test_the_first_build_is_published_whole_or_not_at_all(tmp_path, saved, how):
    *_, new = saved
    whole = {"content_hash": new, "faults": []}

    tries = disturb_every_step(how, tmp_path, tmp_path / "none")

    assert all(one["between"] in (None, whole) for one in tries)
    assert [
        one["step"] for one in tries if one["second"]["exit_code"] or one["after"] != whole
    ] == []


@pytest.mark.parametrize("how", ["kill", "fail"])
def test_a_rebuild_leaves_the_old_generation_until_the_new_one_is_whole(tmp_path, saved, how):
    path, old, new = saved
    allowed = [{"content_hash": found, "faults": []} for found in (old, new)]

    tries = disturb_every_step(how, tmp_path, path, "--overwrite")

    assert all(one["between"] in allowed for one in tries)
    assert all(one["after"] == allowed[1] for one in tries)
    assert {one["between"]["content_hash"] for one in tries} == {old, new}
    for one in tries if how == "fail" else ():
        assert_storage_error_or_no_matter(**one["first"])


def assert_storage_error_or_no_matter(*, exit_code, stderr, disturbed):
    """What cannot be tidied away is left to the next build; anything else stops this one."""
    assert disturbed
    assert exit_code in (0, 6)
    assert "Traceback" not in stderr
    if exit_code:
        assert re.search(
            r"no space left on the device, \d+ bytes are free: free some space", stderr
        )
