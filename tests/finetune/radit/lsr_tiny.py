"""An index of a tiny encoder, and rows with made-up LM scores that point into it."""

import numpy as np

from ragkit.finetune.radit.lsr_rows import make_rows
from ragkit.finetune.radit.retriever_tuning import RetrieverTuningOptions, tune_retriever
from ragkit.index.reader import Index
from ragkit.retrieval.build import build_index
from ragkit.retrieval.retriever import Retriever
from ragkit.testing import TINY_WORDS, write_tiny_encoder
from ragkit.training import TrainingOptions
from tests.retrieval.conftest import write_jsonl

NUM_PASSAGES, NUM_QUERIES, K, SEQ = 29, 13, 5, 7


def write_index(folder, *, metric="cosine", keep_vectors="f32", ann="exact", **encoder):
    """An index of random words, embedded by a tiny encoder beside it."""
    model = write_tiny_encoder(folder / "model", **encoder)
    rng = np.random.default_rng(5)
    texts = [" ".join(rng.choice(TINY_WORDS, SEQ)) + f" {i}" for i in range(NUM_PASSAGES)]
    records = [{"id": f"p{i}", "text": text} for i, text in enumerate(texts)]
    corpus = write_jsonl(folder / "corpus.jsonl", records)
    build_index(
        corpus,
        folder / "index",
        encoder=str(model),
        metric=metric,
        keep_vectors=keep_vectors,
        ann=ann,
        device="cpu",
        dtype="fp32",
    )
    return Index.open(folder / "index")


def queries(count=NUM_QUERIES, *, seed=2):
    """Texts of three words and a number."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(TINY_WORDS, 3)) + f" {i}" for i in range(count)]


def found_rows(index, texts, k=K):
    """The rows of the best passages, `[queries, k]`."""
    retriever = Retriever.open(index.path, device="cpu")
    return np.array([[hit.row for hit in hits] for hits in retriever.search_batch(texts, k)])


def scored_rows(index, count=NUM_QUERIES, *, seed=2, liked=lambda rows: 5 * rows % NUM_PASSAGES):
    """Rows of which the LM likes those best for which `liked` is largest."""
    texts = queries(count, seed=seed)
    rows = found_rows(index, texts)
    tokens = np.full(rows.shape, 3)
    mean = 0.005 * liked(rows) - 1.0
    return make_rows(texts, rows, (mean * tokens).astype(np.float32), tokens)


def tuning_options(**changes):
    """Options of a short run."""
    settings = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-3}
    settings |= {"weight_decay": 0.0, "use_cpu": True, "eval_steps": 1, "logging_steps": 1}
    ours = {"direction", "retriever_temperature"} & changes.keys()
    given = {name: changes.pop(name) for name in ours}
    return RetrieverTuningOptions(**given, training=TrainingOptions(**settings | changes))


def tune(index, out, *, rows=None, options=None, **changes):
    """The report of a short run."""
    rows = scored_rows(index) if rows is None else rows
    return tune_retriever(index, rows, options=options or tuning_options(), out=out, **changes)
