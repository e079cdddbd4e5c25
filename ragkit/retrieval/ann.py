"""Third stage of a build: choose the index type, fill it, tune it, and measure its recall."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ragkit.encoders.base import Encoder
from ragkit.errors import ConfigError, RecallError
from ragkit.index.choose import EXACT, AnnChoice, choose_ann, measure_bandwidth
from ragkit.index.exact import Found, search_exact
from ragkit.index.faiss.ann import AnnIndex
from ragkit.index.faiss.structure import validate_factory
from ragkit.index.passages import Passages
from ragkit.index.recall import ground_truth, measure_quality
from ragkit.index.segment import SegmentFolder
from ragkit.index.tune import Tuning, tune
from ragkit.index.vectors import Vectors
from ragkit.retrieval.options import BuildOptions, parse_recall
from ragkit.retrieval.quality import CheckQueries, check_queries, num_check_queries
from ragkit.retrieval.units import available_bytes, parse_duration, parse_size

MEMORY_SHARE = 0.6
# Other queries than the two hundred of the tuning find a little less: of the share that may be
# missed, this much is kept in reserve.
AIM_ABOVE = 0.25
BYTES_PER_VALUE = {"f32": 4, "none": 4, "f16": 2, "int8": 1}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Indexed:
    """The index type that was built and how well it searches, for the manifest."""

    ann: Mapping[str, Any]
    quality: Mapping[str, Any]


def require_factory(options: BuildOptions, *, dim: int) -> None:
    """Try the FAISS factory string, if one is asked for, before any work is done.

    Raises:
        ConfigError: FAISS does not know it, or it does not fit the dimension.
    """
    if options.ann not in ("auto", EXACT):
        validate_factory(options.ann, dim, options.chosen_metric)


def require_kept_vectors(options: BuildOptions, *, num_rows: int, dim: int) -> None:
    """Refuse to keep codes alone of vectors that are best searched exactly.

    Raises:
        ConfigError: They are, and `auto` chooses.
    """
    if options.keep_vectors != "none" or options.ann != "auto":
        return
    if choose(num_rows, dim, options=options).factory == EXACT:
        raise _needs_vectors(num_rows)


def _needs_vectors(num_rows: int) -> ConfigError:
    return ConfigError(
        f"{num_rows} vectors are best searched exactly, which needs them: use "
        "--keep-vectors f16, or name an index type with --ann"
    )


def choose(num_rows: int, dim: int, *, options: BuildOptions) -> AnnChoice:
    """The index type for so many vectors, and what it will cost."""
    memory = parse_size(options.memory) if options.memory else MEMORY_SHARE * available_bytes()
    return choose_ann(
        num_rows,
        dim,
        metric=options.chosen_metric,
        bytes_per_value=BYTES_PER_VALUE[options.keep_vectors],
        memory_bytes=int(memory),
        latency_s=parse_duration(options.latency),
        bandwidth=measure_bandwidth(),
        max_build_s=parse_duration(options.max_build_time),
    )


def index_vectors(
    folder: SegmentFolder,
    passages: Passages,
    vectors: Vectors,
    *,
    options: BuildOptions,
    encoder: Encoder | None,
) -> Indexed:
    """Build the index that the options ask for, tuned to their recall, and check it.

    Raises:
        RecallError: Nothing reaches the recall, and the options do not accept less.
    """
    factories, reason = _factories(vectors, options)
    rng = np.random.default_rng(options.seed)
    approximate = factories[0] != EXACT
    queries = check_queries(
        passages,
        vectors,
        encoder=encoder,
        metric=options.chosen_metric,
        count=num_check_queries(len(vectors), approximate=approximate),
        rng=rng,
        file=options.eval_queries,
    )
    ann, tuning, factory = _build_first_good(factories, vectors, queries, options)
    ann = None if ann is None else folder.write_ann(ann)
    params = {} if tuning is None else dict(tuning.params)
    kept = None if options.keep_vectors == "none" else vectors

    def search(some: Any, depth: int) -> Found:  # noqa: ANN401
        if ann is None:
            return search_exact(
                vectors, some, k=depth, metric=options.chosen_metric, threads=options.threads
            )
        return ann.search(some, k=depth, params=params, threads=options.threads, vectors=kept)

    quality = measure_quality(
        search,
        vectors,
        queries.vectors,
        own_rows=queries.own_rows,
        k=parse_recall(options.recall)[1],
        metric=options.chosen_metric,
        rng=rng,
    )
    described = {"factory": factory, "params": params, "reason": reason, "seed": options.seed}
    if tuning is not None:
        described["curve"] = [asdict(point) for point in tuning.curve]
    target = {"target": options.recall, "queries_kind": queries.kind}
    return Indexed(described, {**target, **asdict(quality)})


def _factories(vectors: Vectors, options: BuildOptions) -> tuple[list[str], str]:
    """What to try, in order, and why."""
    if options.ann != "auto":
        return [options.ann], "asked for"
    choice = choose(len(vectors), vectors.dim, options=options)
    factories = [choice.factory, *(other.factory for other in choice.runners_up)]
    if options.keep_vectors == "none":
        factories = [factory for factory in factories if factory != EXACT]
    if not factories:
        raise _needs_vectors(len(vectors))
    return factories, choice.reason


def _build_first_good(
    factories: Sequence[str], vectors: Vectors, queries: CheckQueries, options: BuildOptions
) -> tuple[AnnIndex | None, Tuning | None, str]:
    """The first index that reaches the recall, with its parameters; `None` for exact search."""
    recall, k = parse_recall(options.recall)
    missed: list[str] = []
    best: tuple[AnnIndex, Tuning, str] | None = None
    for factory in factories:
        if factory == EXACT:
            return None, None, EXACT
        ann = AnnIndex.build(
            factory,
            vectors,
            metric=options.chosen_metric,
            seed=options.seed,
            threads=options.threads,
            device=options.faiss_device,
            deterministic=options.deterministic,
        )
        truth = ground_truth(vectors, queries.vectors, k=k, metric=options.chosen_metric)
        tuning = tune(
            ann,
            vectors,
            queries.vectors,
            truth,
            k=k,
            recall=recall + AIM_ABOVE * (1 - recall),
            keep_vectors=options.keep_vectors != "none",
        )
        if tuning.recall >= recall:
            return ann, tuning, factory
        missed.append(f"{factory}: {tuning.explain()}")
        logger.warning("%s: trying the next index type", missed[-1])
        if best is None or tuning.recall > best[1].recall:
            best = ann, tuning, factory
    if best is None or not options.accept_recall:
        raise RecallError(
            f"recall {options.recall} was missed, and nothing was published: {'; '.join(missed)}; "
            "try --ann exact, a lower --recall, or --accept-recall"
        )
    return best
