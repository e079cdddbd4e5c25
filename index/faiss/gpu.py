"""Builds an index on one or several GPUs; the result is always an index that a CPU can read.

Each GPU takes a run of the rows. Flat and inverted lists are filled there; for codes that GPUs do
not know, only the clustering runs there; graphs come from CAGRA (Ootomo et al. 2023,
arXiv:2308.15136), which needs cuVS.
"""

import functools
import itertools
import logging
from typing import Any

import numpy as np

from ragkit.console import Bar, progress
from ragkit.errors import ConfigError, RagkitError, StorageError
from ragkit.index.faiss import train
from ragkit.index.faiss.chatter import capture_stderr
from ragkit.index.faiss.probe import Gpus
from ragkit.index.faiss.runtime import load
from ragkit.index.faiss.structure import inspect, reason
from ragkit.index.threads import run_all
from ragkit.index.vectors import Vectors

CHECKED_QUERIES = 100
CHECKED_K = 10
CHECKED_PROBES = 8
MIN_AGREEMENT = 0.98
"""Of the hits on both devices: rounding may swap neighbours of nearly equal score."""

TEMP_MEMORY_BYTES = 512 << 20
"""Scratch for each GPU; the rows come on top of it. faiss's own default is three times as much."""

CUVS_ONLY = frozenset({"GpuIndexCagra", "GpuIndexCagraConfig"})

logger = logging.getLogger(__name__)


def build(index: Any, vectors: Vectors, *, seed: int, threads: int, gpus: Gpus) -> Any:  # noqa: ANN401
    """`index`, which is empty, trained and filled with the help of `gpus`.

    Raises:
        ConfigError: GPUs cannot build this type, or there are too few rows for it.
        StorageError: A GPU ran out of memory, or found other rows than the CPU does.
    """
    structure = inspect(index)
    numbers = gpus.devices or tuple(range(load().get_num_gpus()))
    try:
        with capture_stderr():
            if structure.kind == "hnsw":
                return _build_graph(index, vectors, number=numbers[0], gpus=gpus)
            if structure.packed or structure.refines or structure.kind == "other":
                return _build_partly(index, vectors, seed=seed, threads=threads, number=numbers[0])
            built = _fill(index, vectors, seed=seed, numbers=numbers, gpus=gpus)
            check_agreement(built, vectors, numbers=numbers, gpus=gpus)
    except RuntimeError as error:
        raise _explain(error, gpus) from error
    return built


def check_agreement(
    index: Any,  # noqa: ANN401
    vectors: Vectors,
    *,
    numbers: tuple[int, ...],
    gpus: Gpus,
) -> None:
    """Search with some stored rows on both devices and compare what they find.

    Raises:
        StorageError: They find different rows.
    """
    faiss = load()
    step = max(1, len(vectors) // CHECKED_QUERIES)
    queries = vectors.take(np.arange(0, len(vectors), step)[:CHECKED_QUERIES])
    k = min(CHECKED_K, len(vectors))
    params = faiss.SearchParametersIVF(nprobe=CHECKED_PROBES)
    params = params if inspect(index).kind == "ivf" else None
    on_gpu = to_gpus(index, numbers=numbers, gpus=gpus)
    found = [some.search(queries, k, params=params)[1] for some in (index, on_gpu)]
    agreement = np.mean([len(set(a) & set(b)) / k for a, b in zip(*found, strict=True)])
    if agreement < MIN_AGREEMENT:
        raise StorageError(
            f"expected the GPU index to find the same rows after its conversion, found "
            f"{agreement:.1%} of them: build with the faiss device cpu"
        )


def to_gpus(index: Any, *, numbers: tuple[int, ...], gpus: Gpus) -> Any:  # noqa: ANN401
    """A copy of `index` on the GPUs, each holding a part of the rows."""
    faiss = load()
    options = faiss.GpuMultipleClonerOptions()
    options.use_cuvs = gpus.cuvs
    options.shard = len(numbers) > 1
    resources = [_resources() for _ in numbers]
    return faiss.index_cpu_to_gpu_multiple_py(resources, index, options, list(numbers))


def join(parts: list[Any], *, by_list: bool) -> Any:  # noqa: ANN401
    """One index of all rows, from indexes of consecutive runs of them."""
    first, *others = parts
    for other in others:
        # Rows of lists carry their number; flat ones are numbered by their place.
        first.merge_from(other, first.ntotal if by_list else 0)
    return first


def _fill(
    index: Any,  # noqa: ANN401
    vectors: Vectors,
    *,
    seed: int,
    numbers: tuple[int, ...],
    gpus: Gpus,
) -> Any:  # noqa: ANN401
    """Train on the first GPU, let each GPU fill a copy with its run of rows, join the copies."""
    structure = inspect(index)
    if not index.is_trained:
        on_gpu = _to_gpu(index, number=numbers[0], gpus=gpus)
        on_gpu.train(train.draw_sample(vectors, structure, seed=seed))
        index = load().index_gpu_to_cpu(on_gpu)
    bounds = np.linspace(0, len(vectors), len(numbers) + 1).astype(int).tolist()
    with progress("add vectors", total=len(vectors)) as bar:
        tasks = [
            functools.partial(
                _fill_one, index, vectors, range(*run), number=number, gpus=gpus, bar=bar
            )
            for number, run in zip(numbers, itertools.pairwise(bounds), strict=True)
        ]
        parts = run_all(tasks, threads=len(numbers))
    return join(parts, by_list=structure.kind == "ivf")


def _fill_one(
    index: Any,  # noqa: ANN401
    vectors: Vectors,
    rows: range,
    *,
    number: int,
    gpus: Gpus,
    bar: Bar,
) -> Any:  # noqa: ANN401
    """A copy of `index` on the CPU that one GPU filled with some of the rows."""
    on_gpu = _to_gpu(index, number=number, gpus=gpus)
    for start in range(rows.start, rows.stop, train.ROWS_PER_ADD):
        values = vectors.read(start, min(start + train.ROWS_PER_ADD, rows.stop))
        on_gpu.add(values)
        bar.advance(len(values))
    return load().index_gpu_to_cpu(on_gpu)


def _build_partly(
    index: Any,  # noqa: ANN401
    vectors: Vectors,
    *,
    seed: int,
    threads: int,
    number: int,
) -> Any:  # noqa: ANN401
    """Find the centres of the lists on the GPU, which is most of the work, the rest on the CPU."""
    faiss = load()
    logger.info("GPUs do not hold this index type: only its clustering runs there")
    lists = faiss.try_extract_index_ivf(index)
    centres = None
    if lists is not None:
        flat = faiss.IndexFlat(lists.d, lists.metric_type)
        centres = faiss.index_cpu_to_gpu(_resources(), number, flat)
        lists.clustering_index = centres
    train.train(index, vectors, seed=seed, threads=threads, deterministic=False)
    if lists is not None:
        lists.clustering_index = None  # it belongs to `centres`, which ends here
    train.add(index, vectors, threads=threads, deterministic=False)
    return index


def _build_graph(index: Any, vectors: Vectors, *, number: int, gpus: Gpus) -> Any:  # noqa: ANN401
    """A graph over all rows by CAGRA, with the degree that `index` asks for, as an HNSW index."""
    faiss = load()
    if not gpus.cuvs or not isinstance(index, faiss.IndexHNSWFlat):
        raise ConfigError(
            f"graphs are built on a GPU through cuVS and over whole vectors only, found {gpus} and "
            f"{type(index).__name__}: use HNSW32 with the faiss device cuvs, or the device cpu"
        )
    config = faiss.GpuIndexCagraConfig()
    config.device = number
    config.graph_degree = 2 * index.hnsw.nb_neighbors(1)  # the lowest level has twice as many
    config.intermediate_graph_degree = 2 * config.graph_degree
    cagra = faiss.GpuIndexCagra(_resources(), vectors.dim, index.metric_type, config)
    cagra.train(vectors.read(0, len(vectors)))
    graph = faiss.IndexHNSWCagra()
    cagra.copyTo(graph)
    return graph


def _to_gpu(index: Any, *, number: int, gpus: Gpus) -> Any:  # noqa: ANN401
    faiss = load()
    options = faiss.GpuClonerOptions()
    options.use_cuvs = gpus.cuvs
    return faiss.index_cpu_to_gpu(_resources(), number, index, options)


def _resources() -> Any:  # noqa: ANN401
    """Scratch and streams of one GPU, for one thread."""
    resources = load().StandardGpuResources()
    resources.setTempMemory(TEMP_MEMORY_BYTES)
    return resources


def _explain(error: RuntimeError, gpus: Gpus) -> RagkitError:
    """What a failure on the GPU means for the user."""
    if "memory" in str(error) or "alloc" in str(error):
        return StorageError(
            f"{gpus} ran out of memory ({reason(error)}): choose an index type with shorter codes, "
            "more GPUs, or the faiss device cpu"
        )
    return ConfigError(
        f"{gpus} cannot build this index type ({reason(error)}): choose IVF with Flat, SQ8 or PQ, "
        "or the faiss device cpu"
    )
