"""One training run, from an empty folder or from its last checkpoint."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ragkit.config import adapter
from ragkit.errors import DataError
from ragkit.training.arguments import make_arguments
from ragkit.training.checkpoints import Checkpoints
from ragkit.training.evaluating import HeldOut
from ragkit.training.folder import RunFolder
from ragkit.training.length import count_steps
from ragkit.training.objective import Collator, NextToken, Objective
from ragkit.training.options import TrainingOptions
from ragkit.training.report import TrainingReport, read_report
from ragkit.training.stretch import Stretch
from ragkit.training.task import Task

logger = logging.getLogger(__name__)


def train(  # noqa: PLR0913 - half of them have defaults
    model: PreTrainedModel,
    dataset: Any,  # noqa: ANN401 - any sequence; the collator knows its items
    *,
    collator: Collator,
    options: TrainingOptions,
    out: Path,
    held_out: HeldOut | None = None,
    objective: Objective | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    recipe: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> TrainingReport:
    """Train `model` in place, and write the run down in `out`.

    Run again after it was stopped or killed, it goes on from its last checkpoint, and ends with
    the same weights and metrics, to the last bit, as if nothing had happened. A finished run is
    not touched, and neither is `model`: load the one in `out`. SIGINT and SIGTERM end the run
    after the update at hand with a checkpoint, and are then passed on.

    Args:
        dataset: Rows, map-style, equal whenever they are read.
        collator: Makes a batch of some rows; without random numbers.
        out: Holds `metrics.jsonl`, `timings.jsonl`, `evaluations.jsonl`, `recipe.yaml`,
            `environment.json`, `checkpoints/`, and at the end `model/` and `loss.png`.
        objective: What is minimised; the model's own next-token loss if not set.
        tokenizer: Saved beside the trained model.
        recipe: All that decides the run, as JSON values; the options alone if not set. A run goes
            on only with an equal recipe.
        overwrite: Begin anew if `out` holds a run.

    Raises:
        ConfigError: Options, model and hardware do not fit one another, or `out` holds another run.
        DataError: There are no rows, or no targets in them.
        MissingDependencyError: A package that `report_to` needs is absent.
        DivergedError: Loss or gradients are no longer finite.
        StorageError: The disk is full or failing; the last checkpoint is still there.
    """
    folder, objective = RunFolder(out), objective or NextToken()
    row_tokens = _count_row_tokens(dataset, collator, objective)
    max_steps = count_steps(
        options,
        num_rows=len(dataset),
        row_tokens=row_tokens,
        num_processes=int(os.environ.get("WORLD_SIZE", "1")),
    )
    arguments = make_arguments(options, max_steps=max_steps, out=out, evaluates=bool(held_out))
    facts = {
        "num_processes": arguments.world_size,
        "num_rows": len(dataset),
        "num_parameters": model.num_parameters(),
    }
    if arguments.process_index == 0:
        own = {"training": adapter(TrainingOptions).dump_python(options, mode="json")}
        folder.claim(recipe or own, facts, overwrite=overwrite)
    arguments.distributed_state.wait_for_everyone()
    if folder.report.is_file():
        logger.info("%s is finished already: nothing is done", out)
        return read_report(folder.report)
    start = Checkpoints(folder.checkpoints, limit=options.save_total_limit).latest()
    task = Task(
        rows=dataset,
        row_tokens=row_tokens,
        collator=collator,
        objective=objective,
        options=options,
        folder=folder,
        held_out=held_out,
        tokenizer=tokenizer,
        start=start,
    )
    return Stretch(model, arguments, task).complete()


def _count_row_tokens(
    dataset: Any,  # noqa: ANN401 - as for `train`
    collator: Collator,
    objective: Objective,
) -> int:
    if not len(dataset):
        raise DataError("the dataset has no rows: give at least one")
    return objective.count_tokens(collator([dataset[0]]))
