"""A small index and a tokenizer for the tests of RA-DIT's data."""

import json

from ragkit.index.reader import Index
from ragkit.retrieval.build import build_index
from ragkit.retrieval.retriever import Retriever
from ragkit.tokenizers import train_bpe

PASSAGES = {
    "Oslo#0": "Oslo is the capital of Norway and lies at the head of a long fjord.",
    "Oslo#1": "The opera house of Oslo rises from the fjord like a sheet of ice.",
    "Oslo#2": "Trams have run through the streets of Oslo since the year 1894.",
    "Rome#0": "Rome is the capital of Italy and stands on seven hills.",
    "Rome#1": "The opera house of Rome opened with a work by Rossini.",
    "Lima": "Lima is the capital of Peru and lies on the coast of the Pacific.",
    "Quito": "Quito is the capital of Ecuador and lies high in the Andes.",
    "copy": "Rome is the capital of Italy and stands on seven hills.",
    "Bern": "Bern is the capital of Switzerland and keeps bears in a park.",
}


def write_jsonl(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


def build_corpus(folder, passages):
    """A retriever over `passages` and its index."""
    rows = [
        {"id": name, "title": name.partition("#")[0], "text": text}
        for name, text in passages.items()
    ]
    corpus = write_jsonl(folder / "corpus.jsonl", rows)
    build_index(corpus, folder / "index", encoder="hash:64", keep_vectors="f32")
    return Retriever.open(folder / "index"), Index.open(folder / "index")


def tiny_tokenizer():
    """A tokenizer that knows the words of the passages."""
    texts = [*PASSAGES.values(), "Background: Question: Answer: Q: A:"]
    return train_bpe(texts, vocab_size=311)
