"""One training run, from an empty folder or from its last checkpoint."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, TrainingArguments

from ragkit.config import adapter
from ragkit.console import Bar, progress
from ragkit.errors import DataError
from ragkit.hub import quiet_transformers
from ragkit.training.arguments import make_arguments
from ragkit.training.checkpoints import Checkpoints
from ragkit.training.environment import note_environment
from ragkit.training.folder import RunFolder
from ragkit.training.held_out import HeldOut, require_targets
from ragkit.training.model_checks import TrainedModel
from ragkit.training.objective import Collator, NextToken, Objective
from ragkit.training.options import TrainingOptions
from ragkit.training.pace import Pace, find_max_rate
from ragkit.training.plots import plot_run
from ragkit.training.publication import publish_model, read_selection, trained_folder
from ragkit.training.report import TrainingReport, read_report, write_report
from ragkit.training.run_spec import RunSpec
from ragkit.training.schedules import count_steps
from ragkit.training.stopping import StopRequest
from ragkit.training.tally import Tally
from ragkit.training.trainer import RagkitTrainer

logger = logging.getLogger(__name__)


def train(  # noqa: PLR0913 - half of them have defaults
    model: TrainedModel,
    dataset: Any,  # noqa: ANN401 - any sequence; the collator knows its items
    *,
    collator: Collator,
    options: TrainingOptions,
    out: Path,
    held_out: HeldOut | None = None,
    objective: Objective | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    recipe: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> TrainingReport:
    """Train `model` in place, and write the run down in `out`.

    Run again after it was stopped or killed, it goes on from its last checkpoint, and ends with
    the same weights and metrics as if nothing had happened: to the last bit on the CPU, where that
    is tested; the kernels of a GPU may add in another order each time. A finished run is not
    touched, and neither is `model`: load the one in `out`. SIGINT and SIGTERM end the run after
    the update at hand with a checkpoint, and are then passed on.

    Args:
        dataset: Rows, map-style, equal whenever they are read.
        collator: Makes a batch of some rows; without random numbers.
        out: Holds `metrics.jsonl`, `timings.jsonl`, `evaluations.jsonl`, `recipe.yaml`,
            `environment.json`, `checkpoints/`, and at the end `model/` and `loss.png`. Of a model
            with adapters of peft only these are trained and saved, at the end in `adapter/`.
        objective: What is minimised; the model's own next-token loss if not set.
        tokenizer: Saved beside the trained model.
        recipe: All that decides the run, as JSON values; the options alone if not set. A run goes
            on only with an equal recipe.
        facts: What else decides it, as JSON values: hashes of the tokens and of the tokenizer, say.
            A run goes on only with equal facts.
        overwrite: Begin anew if `out` holds a run.

    Raises:
        ConfigError: Options, model and hardware do not fit one another, or `out` holds another run,
            or another process trains there.
        DataError: There are no rows, or no targets in them or in those held out.
        MissingDependencyError: A package that `report_to` needs is absent.
        DivergedError: The loss, in training or on held-out rows, or gradients are no longer finite.
        StorageError: The disk is full or failing; the last checkpoint is still there.
    """
    folder, objective = RunFolder(out), objective or NextToken()
    row_tokens = _count_row_tokens(dataset, collator, objective)
    if held_out is not None:
        require_targets(held_out, objective=objective, collate=collator)
    max_steps = count_steps(
        options,
        num_rows=len(dataset),
        row_tokens=row_tokens,
        num_processes=int(os.environ.get("WORLD_SIZE", "1")),
    )
    arguments = make_arguments(options, max_steps=max_steps, out=out, evaluates=bool(held_out))
    counts = {
        "num_processes": arguments.world_size,
        "num_rows": len(dataset),
        "num_parameters": model.num_parameters(),
    }
    decided = recipe or {"training": adapter(TrainingOptions).dump_python(options, mode="json")}
    known = {**(facts or {}), **counts}
    with _claimed(folder, arguments, recipe=decided, facts=known, overwrite=overwrite):
        if folder.report.is_file():
            logger.info("%s is finished already: nothing is done", out)
            # The folder may have been moved since.
            return replace(read_report(folder.report), out=str(folder.path))
        spec = RunSpec(
            rows=dataset,
            row_tokens=row_tokens,
            collator=collator,
            objective=objective,
            options=options,
            folder=folder,
            held_out=held_out,
            tokenizer=tokenizer,
            start=Checkpoints(folder.checkpoints, limit=options.save_total_limit).latest(),
        )
        return Run(model, arguments, spec).complete()


@contextmanager
def _claimed(
    folder: RunFolder,
    arguments: TrainingArguments,
    *,
    recipe: Mapping[str, Any],
    facts: Mapping[str, Any],
    overwrite: bool,
) -> Iterator[None]:
    """Let the first process claim the folder, and hold it during the block."""
    is_first = arguments.process_index == 0
    with folder.locked() if is_first else nullcontext():
        if is_first:
            folder.claim(recipe, facts, overwrite=overwrite)
        arguments.distributed_state.wait_for_everyone()
        yield


def _count_row_tokens(
    dataset: Any,  # noqa: ANN401 - as for `train`
    collator: Collator,
    objective: Objective,
) -> int:
    if not len(dataset):
        raise DataError("the dataset has no rows: give at least one")
    return objective.count_tokens(collator([dataset[0]]))


class Run:
    """A run from its last checkpoint, or from nothing, to its end.

    Args:
        arguments: Made from the options of `spec`.
    """

    def __init__(self, model: TrainedModel, arguments: TrainingArguments, spec: RunSpec) -> None:
        self._model, self._arguments, self._spec = model, arguments, spec
        self._is_first = arguments.process_index == 0
        self._tally = Tally(**(spec.start.state["tally"] if spec.start else {}))

    def complete(self) -> TrainingReport:
        """Train to the end, or until a signal, which is then passed on."""
        left = self._arguments.max_steps - self._spec.start_step
        if self._is_first:
            self._begin()
        with quiet_transformers():
            with _use_cache_kept(self._model), StopRequest() as stop:
                trainer = self._make_trainer(stop)
                with progress("train", total=left, shown=self._is_first) as bar:
                    pace = self._train(trainer, bar)
            report = self._report(trainer, pace)
            if report.finished:
                self._finish(trainer, report)
        trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).eval()
        stop.pass_on()
        return report

    def _begin(self) -> None:
        """Cut the lines back to the checkpoint; note what goes on from there."""
        folder = self._spec.folder
        for file in folder.metrics_files:
            file.cut(self._spec.start_step)
        note_environment(folder.environment, self._arguments, resumed=self._spec.start is not None)

    def _make_trainer(self, stop: StopRequest) -> RagkitTrainer:
        return RagkitTrainer(
            self._model,
            self._arguments,
            spec=self._spec,
            tally=self._tally,
            stop_requested=lambda: stop.number is not None,
        )

    def _train(self, trainer: RagkitTrainer, bar: Bar) -> Pace:
        start, folder = self._spec.start, self._spec.folder
        # The model that is trained may be the best already.
        self._arguments.eval_on_start = self._spec.best_by is not None and start is None
        max_rate = find_max_rate(
            self._model.config, self._arguments, row_tokens=self._spec.row_tokens
        )
        pace = Pace(self._tally, bar, folder=folder, max_rate=max_rate)
        trainer.add_callback(pace)
        trainer.train(resume_from_checkpoint=str(start.path) if start else None)
        return pace

    def _report(self, trainer: RagkitTrainer, pace: Pace) -> TrainingReport:
        folder, evaluation = self._spec.folder, trainer.evaluation
        lines = folder.metrics.lines()
        return TrainingReport(
            out=str(folder.path),
            finished=trainer.state.global_step >= self._arguments.max_steps,
            resumed_from=self._spec.start_step,
            steps=trainer.state.global_step,
            num_tokens=self._tally.num_tokens,
            loss_nats=lines[-1]["loss_nats"] if lines else None,
            eval_loss_nats=evaluation.loss_nats if evaluation else None,
            bits_per_byte=evaluation.bits_per_byte if evaluation else None,
            seconds=pace.seconds,
            tokens_per_s=pace.tokens_per_s,
            selection=read_selection(trained_folder(self._model, self._spec)),
        )

    def _finish(self, trainer: RagkitTrainer, report: TrainingReport) -> None:
        """Publish the model, if the best is not, draw the curves, and say the run is finished."""
        folder = self._spec.folder
        if self._spec.best_by is None:
            publish_model(trainer, trained_folder(self._model, self._spec), self._spec)
        if self._is_first:
            plot_run(folder.plot, folder.metrics.lines(), folder.evaluations.lines())
            write_report(folder.report, report)
        trainer.accelerator.wait_for_everyone()


@contextmanager
def _use_cache_kept(model: TrainedModel) -> Iterator[None]:
    """Bring the config's `use_cache`, which transformers turns off to train, back afterwards."""
    former = getattr(model.config, "use_cache", None)
    try:
        yield
    finally:
        if former is not None:
            model.config.use_cache = former
