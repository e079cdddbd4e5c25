"""A reader with its rejects, and a tokenizer of a few lines."""

import json
import re

import numpy as np
import pytest

from ragkit.data import ReadOptions, Rejects, read_documents


class Reader:
    """Reads inputs and keeps the rejects of the last call."""

    def __init__(self, folder):
        self.folder, self.counts = folder, {}

    def __call__(self, *inputs, **options):
        with Rejects(self.folder / "rejects.jsonl") as rejects:
            self.counts = rejects.counts
            return list(
                read_documents(
                    [str(given) for given in inputs],
                    options=ReadOptions(**options),
                    rejects=rejects,
                )
            )

    @property
    def rejected(self):
        lines = (self.folder / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


class WordCounter:
    """Words and punctuation as tokens, two special tokens, and the title in front."""

    def __init__(self, max_seq_length=31):
        self.max_seq_length = max_seq_length

    def token_offsets(self, text):
        spans = [match.span() for match in re.finditer(r"\w{1,5}|[^\w\s]", text)]
        return np.array(spans, np.int32).reshape(-1, 2)

    def count(self, text, title):
        return 2 + len(self.token_offsets(f"{title} {text}"))


@pytest.fixture
def read(tmp_path_factory):
    return Reader(tmp_path_factory.mktemp("rejects"))


@pytest.fixture(scope="session")  # hypothesis asks that examples share it
def counter():
    return WordCounter()
