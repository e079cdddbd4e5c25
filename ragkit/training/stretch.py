"""The part of a run from its last checkpoint, or from nothing, to its end."""

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel, TrainingArguments

from ragkit.console import Bar, progress
from ragkit.errors import ConfigError
from ragkit.hub import quiet_transformers
from ragkit.nn.flops import peak_flops, training_flops_per_token
from ragkit.storage import durable_file
from ragkit.training.checkpoints import writing
from ragkit.training.environment import environment
from ragkit.training.pace import Pace
from ragkit.training.plots import plot_run
from ragkit.training.report import TrainingReport, write_report
from ragkit.training.stopping import StopRequest
from ragkit.training.tally import Tally
from ragkit.training.task import Task
from ragkit.training.trainer import ARGUMENTS_NAME, RagkitTrainer

logger = logging.getLogger(__name__)


class Stretch:
    """Trains once, and writes down what came out.

    Args:
        arguments: Made from the options of `task`.
    """

    def __init__(self, model: PreTrainedModel, arguments: TrainingArguments, task: Task) -> None:
        self._model, self._arguments, self._task = model, arguments, task
        self._is_first = arguments.process_index == 0
        self._tally = Tally(**(task.start.state["tally"] if task.start else {}))

    def complete(self) -> TrainingReport:
        """Train to the end, or until a signal, which is then passed on."""
        left = self._arguments.max_steps - self._task.start_step
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
        """Cut the journals back to the checkpoint; note what goes on from there."""
        for journal in self._task.folder.journals:
            journal.cut(self._task.start_step)
        path, now = self._task.folder.environment, environment(self._arguments)
        if self._task.start and path.is_file():
            former = json.loads(path.read_text(encoding="utf-8"))
            changed = [name for name in now if former.get(name) != now[name]]
            if changed:
                logger.warning("the run goes on with other %s: bits may differ", ", ".join(changed))
        with durable_file(path) as file:
            file.write((json.dumps(now, indent=1) + "\n").encode())

    def _make_trainer(self, stop: StopRequest) -> RagkitTrainer:
        return RagkitTrainer(
            self._model,
            self._arguments,
            task=self._task,
            tally=self._tally,
            stop_requested=lambda: stop.number is not None,
        )

    def _train(self, trainer: RagkitTrainer, bar: Bar) -> Pace:
        start, folder = self._task.start, self._task.folder
        pace = Pace(self._tally, bar, folder=folder, max_rate=self._max_rate())
        trainer.add_callback(pace)
        trainer.train(resume_from_checkpoint=str(start.path) if start else None)
        return pace

    def _max_rate(self) -> float | None:
        """Tokens per second of all processes at the peak of their hardware, if it is known."""
        dtype = torch.bfloat16 if self._arguments.bf16 else torch.float32
        try:
            flops = training_flops_per_token(self._model.config, self._task.row_tokens)
        except ConfigError as error:
            logger.info("there will be no flops_share: %s", error)
            return None
        return peak_flops(self._arguments.device, dtype) * self._arguments.world_size / flops

    def _report(self, trainer: RagkitTrainer, pace: Pace) -> TrainingReport:
        folder, evaluation = self._task.folder, trainer.evaluation
        lines = folder.metrics.lines()
        return TrainingReport(
            out=str(folder.path),
            finished=trainer.state.global_step >= self._arguments.max_steps,
            resumed_from=self._task.start_step,
            steps=trainer.state.global_step,
            num_tokens=self._tally.num_tokens,
            loss_nats=lines[-1]["loss_nats"] if lines else None,
            eval_loss_nats=evaluation.loss_nats if evaluation else None,
            bits_per_byte=evaluation.bits_per_byte if evaluation else None,
            seconds=pace.seconds,
            tokens_per_s=pace.tokens_per_s,
        )

    def _finish(self, trainer: RagkitTrainer, report: TrainingReport) -> None:
        """Publish the model, then draw the curves, then say that the run is finished."""
        folder = self._task.folder
        unfinished = folder.model.with_name("model.partial")
        with writing(folder.model):
            trainer.save_model(str(unfinished))  # on all processes: shards are gathered
            if self._is_first:
                if self._task.tokenizer is not None:
                    self._task.tokenizer.save_pretrained(unfinished)
                (unfinished / ARGUMENTS_NAME).unlink()
                shutil.rmtree(folder.model, ignore_errors=True)
                unfinished.rename(folder.model)
        if self._is_first:
            plot_run(folder.plot, folder.metrics.lines(), folder.evaluations.lines())
            write_report(folder.report, report)
        trainer.accelerator.wait_for_everyone()


@contextmanager
def _use_cache_kept(model: PreTrainedModel) -> Iterator[None]:
    """Bring the config's `use_cache`, which transformers turns off to train, back afterwards."""
    former = getattr(model.config, "use_cache", None)
    try:
        yield
    finally:
        if former is not None:
            model.config.use_cache = former
