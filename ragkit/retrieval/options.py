"""What can be chosen when an index is built; the command's flags have the same names."""

from typing import Literal

from ragkit.config import config
from ragkit.data import ReadOptions, Rejects, parse_chunker
from ragkit.errors import ConfigError
from ragkit.index.threads import resolve_threads
from ragkit.index.vectors import VectorDtype
from ragkit.index.workspace import Resume
from ragkit.retrieval.units import parse_duration, parse_size
from ragkit.types import Metric

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


@config
class BuildOptions:
    """How files become passages, vectors and an index."""

    encoder: str = DEFAULT_ENCODER
    """Path, hub id, `package:NAME` or `hash:DIM`; empty for ready `embeddings` of no model."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
    device: str = "auto"
    """cpu, cuda, cuda:1, cuda:0,1 or auto."""
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto` is bf16 where the device multiplies it, else fp32."""
    batch_tokens: int | None = None
    """Padded tokens of one forward pass."""
    max_length: int | None = None
    """Most tokens of a passage, if fewer than the model takes."""
    query_prefix: str | None = None
    """Put before each query; the model's own if not set."""
    passage_prefix: str | None = None
    """Put before each passage; the model's own if not set."""
    dim: int | None = None
    """Keep this many dimensions (Matryoshka models)."""
    trust_remote_code: bool = False
    """Run the Python code that comes with the model."""
    embeddings: str | None = None
    """A .npy or .safetensors file with one row per passage, instead of embedding them."""

    read: ReadOptions = ReadOptions()
    template: str = "{title} {text}"
    """What is embedded; stripped of white space at both ends."""
    chunk: str = "auto"
    """`auto`: records stay whole, files are cut `tokens:256:32`."""
    on_long: Literal["split", "truncate", "error"] = "split"
    """What happens to a passage that is longer than the encoder can see."""
    on_duplicate: Literal["error", "keep-first", "keep-last", "rename"] = "error"
    """What happens to a document whose id occurred before."""
    dedup: Literal["none", "exact"] = "none"
    """Whether equal texts are stored once."""
    max_rejects: str = "1%"
    """More refused rows than this, in number or per cent, stop the build."""

    metric: Literal["auto", "cosine", "ip", "l2"] = "auto"
    """How vectors are compared; `auto` is cosine."""
    ann: str = "auto"
    """`auto`, `exact`, or any FAISS factory string."""
    recall: str = "0.95@10"
    """The index type and its parameters are chosen to reach this recall at this many hits."""
    accept_recall: bool = False
    """Publish even if the recall is missed."""
    eval_queries: str | None = None
    """Text file with a query a line (or BEIR queries.jsonl) for tuning and the recall check."""
    memory: str | None = None
    """Memory that the index may use when served, such as `16G`; 60 % of what is free if not set."""
    latency: str = "50ms"
    """Time that one query may take on one thread."""
    max_build_time: str = "1h"
    """Time that training and filling the FAISS index may take on one core."""
    keep_vectors: Literal["none", "f16", "f32", "int8"] = "f16"
    """How raw vectors are stored, for exact search and for scoring codes again."""
    faiss_device: str = "auto"
    """Where FAISS trains and fills: cpu, cuda, cuda:0,1, cuvs or auto."""
    deterministic: bool = False
    """Equal bytes for any number of threads: one-threaded HNSW, OPQ and PCA, fp32 encoder."""
    seed: int = 0
    """Of the training sample, the check's queries and the bootstrap."""
    threads: int | None = None
    """Threads of FAISS and of exact search; all physical cores if not set."""

    part_rows: int = 4096
    """Passages between two lines of the journal: what a kill can lose."""
    resume: Resume = "auto"
    """`auto` goes on with an unfinished build, `require` wants one, `never` drops it."""
    restart: bool = False
    """Throw an unfinished build away."""
    overwrite: bool = False
    """Publish a new generation where an index already is."""
    break_lock: bool = False
    """Take over the lock that a dead process on another host left."""

    def __post_init__(self) -> None:
        recall, at = parse_recall(self.recall)
        if not 0 < recall <= 1 or at < 1:
            raise ConfigError(f"recall must look like 0.95@10, got {self.recall!r}")
        if self.chunk != "auto":
            parse_chunker(self.chunk)
        if "{text}" not in self.template:
            raise ConfigError(f"template must contain {{text}}, got {self.template!r}")
        if self.embeddings is not None and self.chunk not in ("auto", "none"):
            raise ConfigError("embeddings belong to whole passages: leave chunk at `none`")
        if self.keep_vectors == "none" and self.ann == "exact":
            raise ConfigError("exact search needs the vectors: use --keep-vectors f16, f32 or int8")
        self._check_numbers()

    def _check_numbers(self) -> None:
        """Raise ConfigError now for what would else be found out after the encoding."""
        for name, least in (("part_rows", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        resolve_threads(self.threads)
        Rejects().check(0, self.max_rejects)
        parse_duration(self.latency)
        parse_duration(self.max_build_time)
        if self.memory is not None:
            parse_size(self.memory)

    @property
    def chosen_metric(self) -> Metric:
        """How vectors are compared."""
        return "cosine" if self.metric == "auto" else self.metric

    @property
    def part_dtype(self) -> VectorDtype:
        """How vectors lie on the disk until the segment is written."""
        return "f16" if self.keep_vectors == "f16" else "f32"

    @property
    def stored_dtype(self) -> VectorDtype:
        """How vectors lie in the index; f32 for `none`, until they are dropped."""
        return {"f16": "f16", "int8": "i8"}.get(self.keep_vectors, "f32")  # type: ignore[return-value]


def parse_recall(text: str) -> tuple[float, int]:
    """Target and number of hits of `0.95@10`."""
    target, _, at = text.partition("@")
    try:
        return float(target), int(at or 10)
    except ValueError as error:
        raise ConfigError(f"recall must look like 0.95@10, got {text!r}") from error
