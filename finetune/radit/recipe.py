"""What a run of RA-DIT is made of, as a recipe."""

import math
from collections.abc import Mapping
from typing import Literal

from ragkit.config import config
from ragkit.errors import ConfigError
from ragkit.finetune.radit.instances import NUM_PASSAGES
from ragkit.finetune.radit.lm_tuning import LmTuningOptions
from ragkit.finetune.radit.lsr import Direction, ScoreKind
from ragkit.finetune.radit.mixture import CAP
from ragkit.finetune.radit.records import RecordFields
from ragkit.finetune.radit.task_rules import Task
from ragkit.rag.modes import Mode
from ragkit.rag.template import PromptTemplate
from ragkit.retrieval.options import BuildOptions
from ragkit.training import TrainingOptions

Scorer = Literal["base", "tuned"]


@config
class CorpusOptions:
    """The passages, and how they are indexed."""

    inputs: tuple[str, ...]
    """Files below `data_dir`."""
    index: str
    """The index folder; an index that is there already, built the same way, is used as it is."""
    build: BuildOptions = BuildOptions()


@config
class TaskSet:
    """One set of examples."""

    name: str
    file: str
    """JSON lines below `data_dir`."""
    task: Task = "open_qa"
    fields: RecordFields = RecordFields()
    passages: str = ""
    """JSON lines below `data_dir` with the contexts that rows name by id."""
    share: float | None = None
    """Of the mixture; sets without one divide the rest by size."""
    for_retriever: bool = True
    """Whether the retriever learns from it too, if its task retrieves."""


@config
class RetrieverStage:
    """How the query tower learns from what the LM finds useful."""

    num_passages: int = 10
    """Passages of an example that are scored."""
    num_examples: int | None = None
    """Examples of the task sets that are scored; all if not set."""
    num_corpus_examples: int = 0
    """Passages of the corpus that are cut in two: the start asks, the end is the target."""
    task_share: float | None = None
    """Of the rows that are trained on, those of the task sets; as many as there are if not set."""
    scorer: Scorer = "base"
    """Which LM scores: that of the recipe, as in the paper, or the one tuned in this round."""
    score: ScoreKind = "geo_prob"
    """What of a target's likelihood is compared."""
    temperature: float = 0.01
    """What the LM's scores are divided by before the softmax."""
    batch_tokens: int | None = None
    """Most tokens of a forward pass of the LM; what suits the device if not set."""
    direction: Direction = "reverse"
    """`reverse` is KL(retriever || target), as the paper writes; `forward` is the other way."""
    training: TrainingOptions

    def __post_init__(self) -> None:
        _require_least(self, {"num_passages": 2, "num_examples": 1, "num_corpus_examples": 0})
        _require_positive("temperature", self.temperature)
        if self.training.num_tokens is not None:
            raise ConfigError(
                "training.num_tokens counts rows of equal length, which queries are not: give "
                "max_steps or num_train_epochs"
            )
        if self.task_share is not None and not 0 < self.task_share < 1:
            raise ConfigError(f"task_share must lie between 0 and 1, got {self.task_share}")


@config
class LmStage:
    """How the LM learns to use passages."""

    num_passages: int = NUM_PASSAGES
    """Passages of an example, each an instance of its own."""
    num_examples: int | None = None
    """Examples of the mixture; as many as repeat none if not set."""
    cap: int | None = CAP
    """Examples that a larger set counts for."""
    tuning: LmTuningOptions

    def __post_init__(self) -> None:
        _require_least(self, dict.fromkeys(("num_passages", "num_examples", "cap"), 1))


@config
class TestOptions:
    """Which questions the arms are compared on, and how they are answered."""

    file: str
    """Questions below `data_dir`."""
    ids: str = ""
    """File with the ids of the questions that are asked, a path or one of ragkit's own recipes."""
    num_questions: int | None = None
    """Drawn evenly from all groups of the file; all if not set."""
    k: int = 3
    mode: Mode = "token-bayes"
    max_new_tokens: int = 16
    batch_size: int = 8

    def __post_init__(self) -> None:
        counts = ("k", "max_new_tokens", "batch_size", "num_questions")
        _require_least(self, dict.fromkeys(counts, 1))


@config
class RaditRecipe:
    """Which LM and retriever are tuned, on what, and for how many rounds."""

    kind: Literal["radit"]
    data_dir: str = ""
    """Folder of the data sets; `RAGKIT_DATA`, or `data`, if empty."""
    out: str
    """The run's folder."""
    model: str
    """The LM: what `ragkit.load_model` takes."""
    dtype: str = "fp32"
    """Of the LM when it scores and answers."""
    corpus: CorpusOptions
    tasks: tuple[TaskSet, ...]
    template: PromptTemplate = PromptTemplate()
    max_length: int = 1024
    """Most tokens of a prompt with its answer."""
    retriever_temperature: float | None = None
    """What the retriever's scores are divided by, in training and in answering; if not set, 0.05
    for vectors of length 1 (0.1 where they are compared by l2), else 1."""
    num_held_out: int = 100
    """Examples of each task set that are not trained on, but measured."""
    rounds: int = 1
    lm: LmStage | None
    """`null` leaves the LM as it is."""
    retriever: RetrieverStage | None
    """`null` leaves the retriever as it is."""
    test: TestOptions | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _require_least(self, {"rounds": 1, "num_held_out": 1, "max_length": 1})
        if len({one.name for one in self.tasks}) < len(self.tasks):
            raise ConfigError(f"two tasks have one name: {[one.name for one in self.tasks]}")
        if self.retriever_temperature is not None:
            _require_positive("retriever_temperature", self.retriever_temperature)
        if self.lm is None and self.retriever is None:
            raise ConfigError("lm and retriever are both null: give at least one of them to tune")
        if self.lm is not None and self.lm.tuning.context_length < self.max_length:
            raise ConfigError(
                f"lm.tuning.context_length is {self.lm.tuning.context_length}, too few for prompts "
                f"of max_length {self.max_length}: raise the one or lower the other"
            )


def _require_least(options: object, least: Mapping[str, int]) -> None:
    """Refuse numbers that are too small; `None` stands for a default."""
    for name, smallest in least.items():
        value = getattr(options, name)
        if value is not None and value < smallest:
            raise ConfigError(f"{name} must be {smallest} or more, got {value}")


def _require_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ConfigError(f"{name} must be above 0 and finite, got {value}")
