"""`kill -9` at any moment: the same command finishes the build, and readers never notice."""

import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ragkit.index.journal import Journal
from ragkit.retrieval.retriever import Retriever
from tests.faults.processes import (
    NUM_PARTS,
    Build,
    appeared,
    assert_published,
    wait_until,
    write_corpus,
)

pytestmark = pytest.mark.slow

RANDOM = random.Random(20)
SHARES = [(place + RANDOM.random()) / 16 for place in range(16)]
"""Moments spread over the whole life of the process."""
STAGES = {
    "build/*/settings.json": 0.02,
    "build/*/journal.jsonl": 0.2,
    "build/*/segment": 0.02,
    "build/*/segment/segment.json": 0.005,
    "gen/*.canary.f32": 0.005,
    "seg/*": 0.005,
}
"""What appears in the folder in the course of a build, and how long the stage lasts in seconds."""
MOMENTS = [(pattern, RANDOM.random() * last) for pattern, last in STAGES.items() for _ in range(4)]
OVERWRITES = 6
QUERY = np.array([3, 1, 2, 1, 0, 2, 1], np.float32)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()


def journalled(index):
    """The keys of the parts that a killed build had finished."""
    return {line["key"] for path in index.glob("build/*") for line in read_journal(path)}


def read_journal(folder):
    return Journal(folder / "journal.jsonl").read()


def finish(build, undisturbed):
    """Run the same command again: it embeds what the journal lacks, and nothing else."""
    published, before = (build.index / "CURRENT").exists(), len(build.notes("begin"))
    kept = NUM_PARTS if published else len(journalled(build.index))

    result = build.run()

    assert result.returncode == 0, result.stderr
    assert_published(build.index, undisturbed.content_hash)
    assert before <= kept + 1
    assert len(build.notes("begin")) - before == NUM_PARTS - kept
    assert not (build.index / "build").exists()


@pytest.mark.parametrize("share", SHARES, ids="{:.0%}".format)
def test_a_build_killed_at_any_moment_goes_on(undisturbed, tmp_path, share):
    build = Build(tmp_path, undisturbed.corpus, tmp_path / "i")
    process = build.start()
    ends = time.monotonic() + share * undisturbed.seconds

    wait_until(lambda: time.monotonic() > ends, process)
    kill(process)

    finish(build, undisturbed)


@pytest.mark.parametrize(("pattern", "later_s"), MOMENTS)
def test_a_build_killed_in_any_stage_goes_on(undisturbed, tmp_path, pattern, later_s):
    build = Build(tmp_path, undisturbed.corpus, tmp_path / "i")
    process = build.start()
    wait_until(appeared(build.index, pattern), process)
    ends = time.monotonic() + later_s

    wait_until(lambda: time.monotonic() > ends, process)
    kill(process)

    finish(build, undisturbed)


def answer(index):
    """What a reader finds: texts, best first."""
    with Retriever.open(index, with_encoder=False) as retriever:
        return tuple(hit.text for hit in retriever.search(QUERY, k=5))


def read_until(stop, index):
    """All the different answers that a reader gets who opens the index again and again."""
    answers = set()
    while not stop.is_set():
        answers.add(answer(index))
    return answers


def kill_and_finish(build, later_s):
    """Kill a rebuild in the middle, then let it run to its end."""
    process = build.start()
    wait_until(appeared(build.index, "build/*/journal.jsonl"), process)
    ends = time.monotonic() + later_s
    wait_until(lambda: time.monotonic() > ends, process)
    kill(process)
    assert build.run().returncode == 0


def test_readers_see_one_generation_or_the_other_while_rebuilds_are_killed(tmp_path):
    corpora = [write_corpus(tmp_path / f"{salt}.jsonl", salt=salt) for salt in ("a", "e")]
    index = tmp_path / "i"
    builds = [Build(tmp_path, corpus, index, "--overwrite") for corpus in corpora]
    expected = set()
    for build in builds:
        assert build.run().returncode == 0
        expected.add(answer(index))
    assert len(expected) == 2
    stop = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        reader = executor.submit(read_until, stop, index)
        try:
            for turn in range(OVERWRITES):
                kill_and_finish(builds[turn % 2], RANDOM.random() * 0.3)
        finally:
            stop.set()

    assert reader.result() == expected
