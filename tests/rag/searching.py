"""A searcher with known passages, and a model to read them."""

from dataclasses import dataclass
from types import SimpleNamespace

from ragkit.decoding import GenerationOptions
from ragkit.rag.pipeline import RagPipeline
from tests.decoding.tiny import tiny_llama, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
MODEL = tiny_llama(eos_token_id=1, max_position_embeddings=640, initializer_range=0.2)


@dataclass(frozen=True)
class Found:
    id: str
    text: str
    score: float
    title: str = ""
    doc_id: str = "doc"


class FixedSearcher:
    """Finds the same passages for every question but those that ask for nothing."""

    def __init__(self, found, *, metric="cosine"):
        self._found, self._metric = list(found), metric
        self.asked = []

    def search_batch(self, queries, k):
        self.asked += queries
        return [[] if "nothing" in query else self._found[:k] for query in queries]

    def info(self):
        return SimpleNamespace(metric=self._metric, model={})


WING = Found("a#0", "the wing of the wind", 0.71, title="Wings")
HEAT = Found("b#0", "the heat of the shock", 0.66)
WIND = Found("c#0", "a wind", 0.52)
FOUND = (WING, HEAT, WIND)


def pipeline(found=FOUND, *, metric="cosine", model=MODEL, **settings):
    options = GenerationOptions(**{"max_new_tokens": 9, **settings.pop("generation", {})})
    searcher = FixedSearcher(found, metric=metric)
    return RagPipeline(searcher, (model, TOKENIZER), options=options, **settings)
