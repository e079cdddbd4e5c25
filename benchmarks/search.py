"""CPU time of `Retriever` by vector against bare faiss on the same index, and recall.

Model: none; the vectors are clustered, with 64 latent dimensions. Size: 100,000 x 384 (`--quick`:
20,000 x 384). Flat is compared with `faiss.knn` (what `IndexFlatIP.search` runs) as it comes, IVF
and HNSW at the search parameters that ragkit's tuning chose; both sides read the same mapped file.
They run on one thread in this process, in rotating turns; a figure is the median over the turns of
the ratio, or difference, within a turn.

Keys of the JSON object on the last line: `exact_speedup_32` (flat, 32 queries, ids and scores),
`overhead_ms_1` (flat, one query), `overhead_ratio_512` (flat, 512 queries, ids and scores read) and
`overhead_ratio_512_texts` (every text read as well), `recall_at_10` (the lower of IVF and HNSW),
`us_per_hit_ivf` and `us_per_hit_hnsw` (512 queries, what `Retriever` adds for each hit).
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from ragkit import Retriever, build_index
from ragkit.index.faiss.ann import AnnIndex
from ragkit.index.reader import Index

Array = NDArray[np.float32]
Work = Callable[[], object]

DIM, LATENT_DIM, CLUSTERS = 384, 64, 1_000
K = 10
TURNS = {1: 61, 32: 31, 512: 31}
HEADING = f"{'index':6}{'batch':>6}{'bare':>9}{'ragkit':>9}{'+ texts':>9}{'ratio':>8}{'recall':>8}"
FACTORIES = {"flat": "exact", "ivf": "IVF{lists},Flat", "hnsw": "HNSW32"}


@dataclass(frozen=True)
class Timing:
    """Median CPU milliseconds of a batch, and of what one side adds to the other in a turn."""

    bare_ms: float
    ours_ms: float
    texts_ms: float
    added_ms: float
    ratio: float
    texts_ratio: float


def main() -> None:
    arguments = parse_arguments()
    rows = 20_000 if arguments.quick else arguments.rows
    faiss.omp_set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        vectors, queries = write_inputs(Path(folder), rows=rows, seed=arguments.seed)
        truth = exact_rows(vectors, queries)
        print(f"{rows} x {DIM}, k={K}, CPU ms per batch on one thread\n")
        print(HEADING)
        found: dict[str, dict[int, Timing]] = {}
        recalls: dict[str, float] = {}
        for name, factory in FACTORIES.items():
            path = build(Path(folder), name, factory.format(lists=num_lists(rows)))
            bare = open_bare(name, path)
            retriever = Retriever.open(path, with_encoder=False, threads=1)
            recalls[name] = recall(retriever, queries, truth)
            found[name] = {
                batch: measure(bare, retriever, queries[:batch], turns=turns)
                for batch, turns in TURNS.items()
            }
            print_rows(name, found[name], recalls[name])
    print(json.dumps({"rows": rows, "dim": DIM, **summary(found, recalls)}))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="20,000 rows, within a minute")
    return parser.parse_args()


def write_inputs(folder: Path, *, rows: int, seed: int) -> tuple[Array, Array]:
    """Vectors and queries of one clustered distribution, of length 1; the first go to files."""
    rng = np.random.default_rng(seed)
    num_queries = max(TURNS)
    centres = rng.standard_normal((CLUSTERS, LATENT_DIM), np.float32)
    latent = centres[rng.integers(CLUSTERS, size=rows + num_queries)]
    latent += 0.7 * rng.standard_normal(latent.shape, np.float32)
    points = latent @ rng.standard_normal((LATENT_DIM, DIM), np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    np.save(folder / "vectors.npy", points[:rows])
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as corpus:
        for row in range(rows):
            line = {"id": f"passage-{row}", "text": f"This is the text of passage {row}. " * 10}
            corpus.write(json.dumps(line) + "\n")
    return points[:rows], points[rows:]


def build(folder: Path, name: str, ann: str) -> Path:
    path = folder / f"{name}.index"
    build_index(
        folder / "corpus.jsonl",
        path,
        encoder="",
        embeddings=str(folder / "vectors.npy"),
        ann=ann,
        keep_vectors="f32",
        threads=1,
    )
    return path


def num_lists(rows: int) -> int:
    return 1_024 if rows >= 50_000 else 256


def open_bare(name: str, path: Path) -> Callable[[Array], object]:
    """Plain faiss on the same file, mapped as ragkit maps it, with ragkit's parameters.

    The same file, because where numbers lie in memory changes the time of one query by more than
    ragkit adds. `faiss.knn` is what `IndexFlatIP.search` runs, on an array that is there already.
    """
    opened = Index.open(path)
    if name == "flat":
        stored = np.asarray(opened.segments[0].vectors.stored)
        return lambda queries: faiss.knn(queries, stored, K, metric=faiss.METRIC_INNER_PRODUCT)
    index = AnnIndex.open(next(path.rglob("ann.faiss"))).index
    kind = {"ivf": faiss.SearchParametersIVF, "hnsw": faiss.SearchParametersHNSW}[name]
    params = kind(**opened.manifest.ann["params"])
    return lambda queries: index.search(queries, K, params=params)


def measure(
    bare: Callable[[Array], object], retriever: Retriever, queries: Array, *, turns: int
) -> Timing:
    """Bare search, search with ids and scores read, and with texts read, in turns."""
    works: tuple[Work, ...] = (
        lambda: bare(queries),
        lambda: [
            [(hit.id, hit.score) for hit in hits] for hits in retriever.search_batch(queries, K)
        ],
        lambda: [
            [(hit.id, hit.score, hit.text) for hit in hits]
            for hits in retriever.search_batch(queries, K)
        ],
    )
    for work in works:
        work()  # the first call pays for imports and page faults
    times = np.empty((turns, len(works)))
    for turn in range(turns):
        for i in range(len(works)):
            place = (turn + i) % len(works)  # each goes first as often as the others
            times[turn, place] = cpu_ms(works[place])
    bare_ms, ours_ms, texts_ms = times.T
    return Timing(
        bare_ms=statistics.median(bare_ms),
        ours_ms=statistics.median(ours_ms),
        texts_ms=statistics.median(texts_ms),
        added_ms=statistics.median(ours_ms - bare_ms),
        ratio=statistics.median(ours_ms / bare_ms),
        texts_ratio=statistics.median(texts_ms / bare_ms),
    )


def cpu_ms(work: Work) -> float:
    started = time.process_time_ns()
    work()
    return 1e-6 * (time.process_time_ns() - started)


def exact_rows(vectors: Array, queries: Array) -> NDArray[np.int64]:
    """The true best rows, `[queries, k]`, by the full matrix of scores."""
    return np.argpartition(-(queries @ vectors.T), K, axis=1)[:, :K]


def recall(retriever: Retriever, queries: Array, truth: NDArray[np.int64]) -> float:
    found = retriever.search_batch(queries, K)
    shares = [
        len({hit.id for hit in hits} & {f"passage-{row}" for row in rows}) / K
        for hits, rows in zip(found, truth, strict=True)
    ]
    return statistics.mean(shares)


def print_rows(name: str, timings: dict[int, Timing], found: float) -> None:
    for batch, timing in timings.items():
        cells = f"{timing.bare_ms:9.3f}{timing.ours_ms:9.3f}{timing.texts_ms:9.3f}"
        print(f"{name:6}{batch:6}{cells}{timing.ratio:8.3f}{found:8.3f}")


def summary(found: dict[str, dict[int, Timing]], recalls: dict[str, float]) -> dict[str, Any]:
    flat = found["flat"]
    return {
        "exact_speedup_32": round(1 / flat[32].ratio, 3),
        "overhead_ms_1": round(flat[1].added_ms, 4),
        "overhead_ratio_512": round(flat[512].ratio, 4),
        "overhead_ratio_512_texts": round(flat[512].texts_ratio, 4),
        "recall_at_10": round(min(recalls["ivf"], recalls["hnsw"]), 4),
        **{
            f"us_per_hit_{name}": round(1e3 * found[name][512].added_ms / (512 * K), 3)
            for name in ("ivf", "hnsw")
        },
    }


if __name__ == "__main__":
    main()
