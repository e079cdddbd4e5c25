"""`transformers.Trainer`, with a loss per target, exact resume and checkpoints that are whole."""

import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainingArguments

from ragkit.errors import ConfigError, DataError, DivergedError
from ragkit.training.checkpoints import writing
from ragkit.training.held_out import Evaluation, evaluate
from ragkit.training.model_checks import (
    TrainedModel,
    require_division,
    require_equal_weights,
    require_float32,
    require_loss_arguments,
)
from ragkit.training.objective import Batch, NextToken
from ragkit.training.publication import publish_model, read_selection, trained_folder
from ragkit.training.row_order import RowOrder
from ragkit.training.run_spec import RunSpec
from ragkit.training.stopping import Ending, ignore_interrupts
from ragkit.training.tally import Tally


class RagkitTrainer(Trainer):
    """Trains on rows in a fixed order.

    Args:
        tally: Counts what is done; goes on from the checkpoint's.
        stop_requested: Asked after each update, on each process: yes from one ends the run.

    Raises:
        ConfigError: The model drops `num_items_in_batch`, or its weights are not in float32 or
            differ between processes.
    """

    def __init__(
        self,
        model: TrainedModel,
        arguments: TrainingArguments,
        *,
        spec: RunSpec,
        tally: Tally,
        stop_requested: Callable[[], bool],
    ) -> None:
        self.evaluation: Evaluation | None = None
        self._spec, self._tally, self._stop_requested = spec, tally, stop_requested
        self._stopping = self._tried = False
        self._step_loss = self._num_targets = torch.zeros(())
        self._num_tokens = 0
        super().__init__(
            model,
            arguments,
            data_collator=spec.collator,
            train_dataset=spec.rows,
            eval_dataset=spec.held_out and spec.held_out.rows,
        )
        self.remove_callback(PrinterCallback)
        self.add_callback(Ending(lambda: self._stopping))
        self.loss_is_scaled_for_ga = True  # by `compute_loss`
        set_seed(spec.options.seed, device_specific=True)  # dropout differs between processes
        if isinstance(spec.objective, NextToken):
            require_loss_arguments(model, accepted=self.model_accepts_loss_kwargs)
        require_float32(model)
        require_equal_weights(model, self.accelerator)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The rows that are left, in batches of this process."""
        options = self._spec.options
        reads_per_step = self.get_total_train_batch_size(self.args)
        order = RowOrder(
            len(self._spec.rows),
            num_reads=self.args.max_steps * reads_per_step,
            first_read=self._spec.start_step * reads_per_step,
            seed=self._spec.order_seed,
        )
        loader = DataLoader(
            self._spec.rows,
            batch_size=options.per_device_train_batch_size,
            sampler=order,
            collate_fn=self._spec.collator,
            num_workers=options.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            worker_init_fn=ignore_interrupts,
            # A loader without a generator of its own draws from that of dropout.
            generator=torch.Generator().manual_seed(options.seed),
        )
        return self.accelerator.prepare(loader)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """The batches of one update, and the targets in those of all processes."""
        batches: list[Batch] = list(islice(epoch_iterator, num_batches))
        objective = self._spec.objective
        num_tokens = sum(objective.count_tokens(batch) for batch in batches)
        num_targets = torch.stack([objective.count_targets(batch) for batch in batches]).sum()
        counts = torch.stack([num_targets, torch.full_like(num_targets, num_tokens)])
        counts = self.accelerator.reduce(counts.to(device), reduction="sum")
        self._num_targets, self._num_tokens = counts[0], int(counts[1])
        self._step_loss = torch.zeros((), device=device)
        return batches, self._num_targets

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Go backward through one batch; its part of the update's loss."""
        if not self._tried:
            require_division(self._spec.objective, model, inputs)
            self._tried = True
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._step_loss = self._step_loss + loss
        return loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:  # noqa: ANN401 - as in the base class
        """The part of one batch in the update's loss; DDP and FSDP take the mean over processes."""
        loss = self._spec.objective.loss(model, inputs, num_items_in_batch=self._num_targets)
        loss = loss * self.accelerator.num_processes
        return (loss, None) if return_outputs else loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """0: transformers' estimate, which counts all weights for each batch, is not used."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Write a line of the metrics, and tell the callbacks."""
        if "loss" in logs:
            logs["loss"] = self._tally.take_loss()
            if self.is_world_process_zero():
                line = {"step": self.state.global_step, "loss_nats": logs["loss"]}
                line |= {name: logs[name] for name in ("grad_norm", "learning_rate")}
                line["num_tokens"] = self._tally.num_tokens
                self._spec.folder.metrics.append(line)
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def evaluate(self, *_: object, **__: object) -> dict[str, float]:
        """Measure the loss on held-out rows, and write it down."""
        if self._spec.held_out is None:
            raise ConfigError("there are no held-out rows to evaluate on: give some")
        self.evaluation = evaluate(
            self._spec.objective,
            self.accelerator.unwrap_model(self.model_wrapped),
            self._spec.held_out,
            collate=self._spec.collator,
            batch_size=self.args.per_device_eval_batch_size,
            accelerator=self.accelerator,
        )
        step, loss_nats = self.state.global_step, self.evaluation.loss_nats
        if not math.isfinite(loss_nats):
            raise self._diverged(f"after step {step} held-out rows have loss {loss_nats}, which")
        found = self.evaluation.numbers()
        if self.is_world_process_zero():
            line = {"step": step, "num_tokens": self._tally.num_tokens}
            self._spec.folder.evaluations.append(line | found)
        self._keep_if_best(found)
        metrics = {f"eval_{name}": value for name, value in found.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _keep_if_best(self, found: dict[str, float]) -> None:
        """Publish the model if it is better than those before, and write down how good it is."""
        name = self._spec.best_by
        target = trained_folder(self.accelerator.unwrap_model(self.model), self._spec)
        if name is None:
            return
        best = read_selection(target)
        if best is None or found[name] > best[name]:
            self.accelerator.wait_for_everyone()  # until all have read
            selection = {"step": self.state.global_step, **found}
            publish_model(self, target, self._spec, selection=selection)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> float:  # noqa: ANN401
        """The norm of the gradients; raises before the update if anything is not finite."""
        norm = _as_number(super()._get_grad_norm(model, grad_norm))  # type: ignore[no-untyped-call]
        loss_nats = self._gather_update()
        self._require_finite(loss_nats, norm)
        self._tally.add(
            loss_nats=loss_nats, num_targets=int(self._num_targets), num_tokens=self._num_tokens
        )
        return norm

    def _gather_update(self) -> float:
        """The loss of the update over all processes, which now know whether one is to stop."""
        flag = torch.full_like(self._step_loss, float(self._stop_requested()))
        sums = self.accelerator.reduce(torch.stack([self._step_loss, flag]), reduction="sum")
        # All processes stop at the same step, whichever of them got the signal.
        self._stopping = bool(sums[1] > 0)
        return float(sums[0]) / self.accelerator.num_processes

    def _require_finite(self, loss_nats: float, grad_norm: float) -> None:
        step = self.state.global_step + 1
        if not self._num_targets:
            raise DataError(f"the rows of step {step} have no target: drop rows without any")
        if not (math.isfinite(loss_nats) and math.isfinite(grad_norm)):
            raise self._diverged(
                f"step {step} has loss {loss_nats} and gradient norm {grad_norm}, both"
            )

    def _diverged(self, found: str) -> DivergedError:
        last = self._spec.checkpoints.latest()
        good = f"the last good checkpoint is {last.path}" if last else "there is no checkpoint yet"
        return DivergedError(
            f"{found} must be finite; {good}: lower the learning rate, warm up longer, or look at "
            "the rows of that step"
        )

    def _get_output_dir(self, trial: Any) -> str:  # noqa: ANN401 - as in the base class
        """Where the base class writes checkpoints."""
        return str(self._spec.checkpoints.staging)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:  # noqa: ANN401
        """Save what the run goes on from; it appears whole or not at all.

        Raises:
            StorageError: The disk is full or failing; the checkpoints before are still there.
        """
        checkpoints, step = self._spec.checkpoints, self.state.global_step
        if self.is_world_process_zero():
            checkpoints.prepare()
        self.accelerator.wait_for_everyone()
        with writing(checkpoints.staging):
            super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            for file in self._spec.folder.metrics_files:
                file.sync()
            checkpoints.publish(step, {"tally": self._tally.state()})
        self.accelerator.wait_for_everyone()


def _as_number(norm: Any) -> float:  # noqa: ANN401 - a number, or a tensor that may be sharded
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
