"""Time and memory to open an index, without its model, against `faiss.read_index`.

Model: none; vectors are random. Size: 1,000,000 x 384 (`--quick`: 100,000 x 384), about 4 GB of
temporary disk. Each figure comes from a process of its own, with imports done and the files in the
page cache; the two sides alternate. The last line of the output is one JSON object.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import faiss
import numpy as np

from ragkit.retrieval.build import build_index

DIM = 384
BLOCK_ROWS = 50_000

CHILD = """
import json, sys, time
import faiss, numpy, pyarrow
from ragkit.index.reader import Index

def anonymous_kb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

side, path, query = sys.argv[1:]
query = numpy.load(query)
before = anonymous_kb()
started = time.perf_counter()
opened = Index.open(path) if side == "ragkit" else faiss.read_index(path)
open_ms = 1e3 * (time.perf_counter() - started)
anonymous_mb = (anonymous_kb() - before) / 1024
started = time.perf_counter()
opened.search(query, k=10)
print(json.dumps([open_ms, anonymous_mb, 1e3 * (time.perf_counter() - started)]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="100,000 rows, 3 runs")
    arguments = parser.parse_args()
    rows, runs = (100_000, 3) if arguments.quick else (arguments.rows, arguments.runs)
    with tempfile.TemporaryDirectory() as folder:
        report(rows, measure(Path(folder), rows=rows, runs=runs))


def measure(folder: Path, *, rows: int, runs: int) -> dict[str, list[tuple[float, float, float]]]:
    paths = {"ragkit": folder / "my.index", "faiss": folder / "flat.faiss"}
    write_inputs(folder, rows=rows)
    build_index(
        folder / "corpus.jsonl",
        paths["ragkit"],
        encoder="",
        embeddings=str(folder / "vectors.npy"),
        ann="exact",
        keep_vectors="f32",
    )
    flat = faiss.IndexFlatIP(DIM)
    flat.add(np.load(folder / "vectors.npy", mmap_mode="r"))
    faiss.write_index(flat, str(paths["faiss"]))
    del flat
    found: dict[str, list[tuple[float, float, float]]] = {side: [] for side in paths}
    for run in range(runs + 1):
        for side, path in paths.items():
            figures = open_once(side, path, folder / "query.npy")
            if run:  # the first run brings the files into the page cache
                found[side].append(figures)
    return found


def write_inputs(folder: Path, *, rows: int) -> None:
    rng = np.random.default_rng(0)
    shape = (rows, DIM)
    vectors = np.lib.format.open_memmap(
        folder / "vectors.npy", mode="w+", dtype=np.float32, shape=shape
    )
    with (folder / "corpus.jsonl").open("w") as corpus:
        for start in range(0, rows, BLOCK_ROWS):
            block = rng.standard_normal((min(BLOCK_ROWS, rows - start), DIM), np.float32)
            vectors[start : start + len(block)] = block / np.linalg.norm(block, axis=1)[:, None]
            for row in range(start, start + len(block)):
                line = {"id": f"passage-{row}", "text": f"This is the text of passage {row}. " * 5}
                corpus.write(json.dumps(line) + "\n")
    np.save(folder / "query.npy", np.array(vectors[:1]))


def open_once(side: str, path: Path, query: Path) -> tuple[float, float, float]:
    command = [sys.executable, "-c", CHILD, side, str(path), str(query)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    open_ms, anonymous_mb, search_ms = json.loads(printed)
    return open_ms, anonymous_mb, search_ms


def report(rows: int, found: dict[str, list[tuple[float, float, float]]]) -> None:
    print(f"{rows} x {DIM}, median of {len(found['ragkit'])} processes (smallest - largest)\n")
    print(f"{'':8} {'open ms':>24} {'anonymous MB':>24} {'first search ms':>24}")
    medians: dict[str, list[float]] = {}
    for side, figures in found.items():
        columns = list(zip(*figures, strict=True))
        medians[side] = [statistics.median(column) for column in columns]
        cells = [f"{statistics.median(c):.1f} ({min(c):.1f} - {max(c):.1f})" for c in columns]
        print(f"{side:8} " + " ".join(f"{cell:>24}" for cell in cells))
    ours, theirs = medians["ragkit"], medians["faiss"]
    keys = {"open_ms": ours[0], "anonymous_mb": ours[1]}
    keys |= {"faiss_open_ms": theirs[0], "faiss_anonymous_mb": theirs[1]}
    print(json.dumps({name: round(value, 2) for name, value in keys.items()} | {"rows": rows}))


if __name__ == "__main__":
    main()
