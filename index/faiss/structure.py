"""What a faiss index is made of: transforms around it, lists or graph, codes, re-ranking."""

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ragkit.errors import ConfigError
from ragkit.index.faiss.chatter import capture_stderr
from ragkit.index.faiss.runtime import load, openmp_threads
from ragkit.types import Metric

Kind = Literal["flat", "ivf", "hnsw", "other"]

TRIAL_ROWS = 2_000
TRIAL_LISTS = 16
MAX_REFINE = 64
MAX_EF_SEARCH = 4_096


@dataclass(frozen=True, slots=True)
class Structure:
    """The parts of an index that decide how it is trained, searched and mapped.

    Args:
        num_lists: Inverted lists; 0 unless `kind` is `ivf`.
        graph_over_lists: Whether a graph finds the lists to visit.
        transformed: Whether vectors are rotated or projected first.
        lossy: Whether the index keeps less than the vectors, so that re-scoring helps.
        refines: Whether the index re-scores by itself (`RFlat`, `Refine(...)`).
        packed: Whether codes are laid out for fast scans, which faiss cannot map.
    """

    kind: Kind
    num_lists: int
    graph_over_lists: bool
    transformed: bool
    lossy: bool
    refines: bool
    packed: bool

    @property
    def parameters(self) -> dict[str, int]:
        """The largest useful value of each search parameter by name; the smallest is 1."""
        found: dict[str, int] = {}
        if self.kind == "ivf":
            found["nprobe"] = self.num_lists
        if self.kind == "hnsw":
            found["efSearch"] = MAX_EF_SEARCH
        if self.lossy or self.refines:
            found["refine_factor"] = MAX_REFINE
        return found


def inspect(index: Any) -> Structure:  # noqa: ANN401
    """The structure of a faiss index."""
    faiss = load()
    *around, inner = layers(index)
    transformed = any(isinstance(layer, faiss.IndexPreTransform) for layer in around)
    refines = any(isinstance(layer, faiss.IndexRefine) for layer in around)
    kind = _kind(inner)
    whole = (faiss.IndexFlat, faiss.IndexIVFFlat, faiss.IndexHNSWFlat, faiss.IndexHNSWCagra)
    quantizer = faiss.downcast_index(inner.quantizer) if kind == "ivf" else None
    return Structure(
        kind=kind,
        num_lists=inner.nlist if kind == "ivf" else 0,
        graph_over_lists=isinstance(quantizer, faiss.IndexHNSW),
        transformed=transformed,
        lossy=(transformed or not isinstance(inner, whole)) and not refines,
        refines=refines,
        packed=isinstance(inner, (faiss.IndexFastScan, faiss.IndexIVFFastScan)),
    )


def layers(index: Any) -> list[Any]:  # noqa: ANN401
    """The index and what it is wrapped around, outermost first."""
    faiss = load()
    found = [faiss.downcast_index(index)]
    while isinstance(found[-1], (faiss.IndexPreTransform, faiss.IndexRefine)):
        refine = isinstance(found[-1], faiss.IndexRefine)
        found.append(faiss.downcast_index(found[-1].base_index if refine else found[-1].index))
    return found


def make_index(factory: str, dim: int, *, metric: Metric) -> Any:  # noqa: ANN401
    """An empty, untrained index.

    Raises:
        ConfigError: faiss does not know the factory string, or it does not fit the dimension.
    """
    faiss = load()
    if "IDMap" in factory:
        raise ConfigError(f"{factory!r}: leave IDMap out, rows are numbered by ragkit")
    try:
        index = faiss.index_factory(dim, factory, faiss_metric(metric))
    except RuntimeError as error:
        raise ConfigError(
            f"expected a faiss factory string that fits {dim} dimensions, such as 'IVF1024,Flat', "
            f"got {factory!r}: {reason(error)}"
        ) from error
    if index.metric_type != faiss_metric(metric):
        raise ConfigError(f"{factory!r} compares by l2 only, not by {metric}: choose another type")
    _skip_polysemous_training(index)
    return index


def validate_factory(factory: str, dim: int, metric: Metric) -> None:
    """Build the index on random rows, so that a long build does not fail at its end.

    Raises:
        ConfigError: faiss refuses the factory string for this dimension and metric.
    """
    make_index(factory, dim, metric=metric)
    trial = make_index(
        # Thousands of lists need more training rows than a trial has; the number is no risk.
        re.sub(r"IVF\d+", f"IVF{TRIAL_LISTS}", factory),
        dim,
        metric=metric,
    )
    _shorten_training(trial)
    rows = np.random.default_rng(0).standard_normal((TRIAL_ROWS, dim), dtype=np.float32)
    try:
        with capture_stderr(), openmp_threads(1):
            trial.train(rows)
            trial.add(rows)
            trial.search(rows[:1], 1)
    except RuntimeError as error:
        raise ConfigError(
            f"{factory!r} cannot be built with {dim} dimensions and metric {metric}: "
            f"{reason(error)}: choose another index type or `auto`"
        ) from error


def faiss_metric(metric: Metric) -> int:
    """The number faiss has for the metric; cosine is the inner product of vectors of length 1."""
    faiss = load()
    number: int = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    return number


def reason(error: BaseException) -> str:
    """What faiss complains about, without the C++ signature it puts in front."""
    return re.sub(r"^.*? at \S+:\d+: ", "", str(error), flags=re.DOTALL).strip()


def _kind(index: Any) -> Kind:  # noqa: ANN401
    faiss = load()
    if isinstance(index, faiss.IndexIVF):
        return "ivf"
    if isinstance(index, faiss.IndexHNSW):
        return "hnsw"
    return "flat" if isinstance(index, faiss.IndexFlatCodes) else "other"


def _skip_polysemous_training(index: Any) -> None:  # noqa: ANN401
    """Save the half minute that product codes spend on a search mode which is not offered here."""
    faiss = load()
    codes = layers(index)[-1]
    if isinstance(codes, faiss.IndexHNSW):
        codes = faiss.downcast_index(codes.storage)
    if isinstance(codes, (faiss.IndexPQ, faiss.IndexIVFPQ)):
        codes.do_polysemous_training = False


def _shorten_training(index: Any) -> None:  # noqa: ANN401
    """Let a learnt rotation iterate once: it would take most of the trial."""
    faiss = load()
    for layer in layers(index):
        if isinstance(layer, faiss.IndexPreTransform):
            for i in range(layer.chain.size()):
                transform = faiss.downcast_VectorTransform(layer.chain.at(i))
                if isinstance(transform, faiss.OPQMatrix):
                    transform.niter = transform.niter_pq_0 = 1
