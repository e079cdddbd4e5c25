"""Documents of 10 MB: cut into passages that the encoder sees whole, in bounded memory and time."""

import json
import random
import subprocess
import sys

import numpy as np
import pytest

from ragkit.index.reader import Index

NUM_CHARACTERS = 10_000_000
MAX_MEMORY_KB = 500_000
MAX_TOKENS = 512
WORDS = ["amber", "birch", "cedar", "delta", "ember", "flint", "grove"]

# The system's own figure for a child starts at the size of its parent.
PROGRAM = """
import atexit, re
from pathlib import Path

def print_peak():
    print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

atexit.register(print_peak)
from ragkit.cli import build_index
build_index()
"""


def ten_megabytes_of_words():
    rng = random.Random(3)
    words = (f"{rng.choice(WORDS)}{rng.randrange(1000)}" for _ in range(NUM_CHARACTERS // 9))
    return " ".join(words).ljust(NUM_CHARACTERS)[:NUM_CHARACTERS]


def ten_megabytes_without_a_space():
    return "a" * NUM_CHARACTERS


def build_apart(*arguments):
    """Exit code and peak memory in KB of `build-index` in its own process."""
    command = [sys.executable, "-c", PROGRAM, *arguments, "--encoder", "hash:16"]
    result = subprocess.run(
        [str(one) for one in command], stdout=subprocess.PIPE, text=True, check=False
    )
    return result.returncode, int(result.stdout.split()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
@pytest.mark.parametrize("write", [ten_megabytes_of_words, ten_megabytes_without_a_space])
@pytest.mark.parametrize("suffix", ["txt", "jsonl"])
def test_a_large_document_is_indexed_whole(tmp_path, write, suffix):
    text = write()
    path = tmp_path / f"c.{suffix}"
    path.write_text(text if suffix == "txt" else json.dumps({"id": "d", "text": text}))

    exit_code, memory_kb = build_apart(path, "-o", tmp_path / "i")

    assert exit_code == 0
    assert memory_kb < MAX_MEMORY_KB
    index = Index.open(tmp_path / "i")
    passages = index.passages(np.arange(len(index)))
    assert max(passage.num_tokens for passage in passages) <= MAX_TOKENS
    assert not any(passage.truncated for passage in passages)
    assert all(passage.text == text[passage.start : passage.end] for passage in passages)
    covered = np.zeros(len(text), bool)
    for passage in passages:
        covered[passage.start : passage.end] = True
    assert not "".join(np.array(list(text))[~covered]).strip()
