"""Runs any causal language model in lm-evaluation-harness (`pip install 'ragkit[eval]'`).

Tasks over local files touch no network: nothing of them is fetched or counted.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ragkit.errors import ConfigError, DataError, MissingDependencyError

DEFAULT_BATCH_SIZE = 16
FEWSHOT_SEED = 1234
"""The harness's own default."""

Task = str | Mapping[str, Any]
"""The name of one of the harness's own tasks, the path of a YAML task, or the task as a mapping."""


@dataclass(frozen=True, slots=True)
class HarnessResult:
    """What the harness found on one task.

    Args:
        metrics: Means by the harness's name of the metric, such as `acc`, and the standard error of
            each, such as `acc_stderr`.
        samples: One per item, in the order of the task: `doc`, `arguments`, `filtered_resps` and
            every metric of this item alone.
    """

    metrics: Mapping[str, float]
    samples: Sequence[Mapping[str, Any]]


def run_harness(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[Task],
    *,
    limit: int | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
) -> dict[str, HarnessResult]:
    """What the harness finds on each task, by the task's name.

    Args:
        limit: Items of each task, from the first on; `None` runs all.
        batch_size: Requests of one forward pass.

    Raises:
        ConfigError: There is no task, or one that the harness does not know or cannot read.
        DataError: A file that a task names is missing.
        MissingDependencyError: lm-eval is not installed.
    """
    if not tasks:
        raise ConfigError("no task given: name one, or give a YAML file or a mapping")
    lm_eval = _import()
    wrapped = lm_eval.models.huggingface.HFLM(
        pretrained=model,
        tokenizer=tokenizer,
        backend="causal",  # it knows only transformers' own types
        batch_size=batch_size,
        softmax_dtype="float32",
    )
    loaded = _load(lm_eval, tasks)
    found = lm_eval.evaluator.evaluate(lm=wrapped, task_dict=loaded, limit=limit)
    return {name: _result(name, found) for name in found["samples"]}


def choice_task(
    name: str, path: Path, *, context: str = "Question: {{question}}\nAnswer:"
) -> dict[str, Any]:
    """A multiple-choice task over JSON lines with `question`, `choices` and `answer`.

    Args:
        path: `choices` are texts, `answer` is the position of the right one.
        context: What stands before each choice, as a Jinja template over the keys of a line.
    """
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": context,
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True}
            for metric in ("acc", "acc_norm", "acc_bytes")
        ],
    }


def _import() -> Any:  # noqa: ANN401 - a module without types
    try:
        import lm_eval.evaluator
        import lm_eval.models.huggingface
        import lm_eval.tasks
    except ImportError as error:
        raise MissingDependencyError(
            "running a model in lm-evaluation-harness needs lm-eval: run "
            "`pip install 'ragkit[eval]'`"
        ) from error
    return lm_eval


def _load(lm_eval: Any, tasks: Sequence[Task]) -> dict[str, Any]:  # noqa: ANN401 - a module without types
    """The harness's own form of the tasks; their data is read here."""
    # Finding the tasks that ship takes seconds, so only where one is named.
    shipped = any(isinstance(task, str) and not Path(task).is_file() for task in tasks)
    manager = lm_eval.tasks.TaskManager(include_defaults=shipped)
    given = [task if isinstance(task, str) else dict(task) for task in tasks]
    try:
        with _uncounted():
            loaded: dict[str, Any] = manager.load(given)
    except FileNotFoundError as error:
        raise DataError(f"a file of a task is missing: {error}: check its data_files") from error
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigError(
            f"lm-evaluation-harness does not take the tasks: {error}: expected names that it "
            "knows, YAML files or mappings with `task`"
        ) from error
    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
    return loaded


@contextmanager
def _uncounted() -> Iterator[None]:
    """Keep `datasets` from telling its hub that a local file is read."""
    import datasets

    was = datasets.config.HF_UPDATE_DOWNLOAD_COUNTS
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    try:
        yield
    finally:
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = was


def _result(name: str, found: Mapping[str, Any]) -> HarnessResult:
    metrics = {
        # `none` is the filter that changes nothing.
        metric.removesuffix(",none"): float(value)
        for metric, value in found["results"][name].items()
        if isinstance(value, int | float) and "," in metric
    }
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    return HarnessResult(metrics, samples)
