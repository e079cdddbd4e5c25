import json

import pytest

from ragkit.retrieval.build import build_index

WORDS = ("amber", "birch", "cedar", "delta", "ember", "flint", "grove", "harbor", "isle", "kelp")


def documents(count):
    """Records with different texts; document 3 names what no other does."""
    texts = [
        " ".join(WORDS[(i * step) % len(WORDS)] for step in range(1, 4 + i % 5))
        for i in range(count)
    ]
    texts[3] = "the lighthouse keeper paints the railing"
    return [
        {"id": f"doc-{i}", "title": f"Title {i}", "text": f"{text} {i}", "year": 2000 + i}
        for i, text in enumerate(texts)
    ]


def write_jsonl(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """37 records in a JSONL file."""
    return write_jsonl(tmp_path_factory.mktemp("corpus") / "corpus.jsonl", documents(37))


@pytest.fixture(scope="session")
def built(corpus, tmp_path_factory):
    """An exact index of the corpus; nobody writes to it."""
    path = tmp_path_factory.mktemp("built") / "my.index"
    return build_index(corpus, path, encoder="hash:64", keep_vectors="f32", part_rows=10)
