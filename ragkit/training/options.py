"""What can be chosen about a training run; names and meanings are those of transformers."""

import math
from typing import Literal

from ragkit.config import config
from ragkit.errors import ConfigError

Schedule = Literal["cosine", "linear", "constant", "warmup_stable_decay"]
Reporter = Literal["tensorboard", "wandb"]

_LEAST: dict[str, float] = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "max_steps": 1,
    "num_tokens": 1,
    "logging_steps": 1,
    "eval_steps": 1,
    "save_steps": 1,
    "save_total_limit": 1,
    "warmup_steps": 0,
    "num_decay_steps": 0,
    "dataloader_num_workers": 0,
    "seed": 0,
    "weight_decay": 0,
    "max_grad_norm": 0,
}
_POSITIVE = ("learning_rate", "num_train_epochs", "adam_epsilon")
_BELOW_ONE = ("adam_beta1", "adam_beta2", "min_lr_rate")


@config
class TrainingOptions:
    """How long, how fast and with what a model learns.

    The optimizer is AdamW; weight decay is multiplied by the learning rate of the step and spares
    norms and biases (embeddings decay), as in transformers.

    Raises:
        ConfigError: A number is out of range, or not exactly one length of the run is given.
    """

    max_steps: int | None = None
    """Updates of the whole run; or give `num_tokens`, or `num_train_epochs`."""
    num_tokens: int | None = None
    """Tokens of the whole run, rounded up to whole updates; for rows of equal length."""
    num_train_epochs: float | None = None
    """Times that each row is seen, rounded up to whole updates."""
    per_device_train_batch_size: int = 8
    """Rows of one forward pass."""
    per_device_eval_batch_size: int = 8
    """Rows of one forward pass over held-out rows."""
    gradient_accumulation_steps: int = 1
    """Forward passes of one update, on each process."""
    train_sampling_strategy: Literal["random", "sequential"] = "random"
    """`random` gives every epoch an order of its own; `sequential` keeps that of the dataset."""

    learning_rate: float = 3e-4
    """The peak, which warm-up rises to."""
    lr_scheduler_type: Schedule = "cosine"
    """What follows the linear warm-up; see `ragkit.training.schedules`."""
    warmup_steps: int = 0
    """Updates until the peak; the first of them has a learning rate of 0."""
    min_lr_rate: float = 0.01
    """The learning rate that the schedule ends on, as a part of the peak."""
    num_decay_steps: int = 0
    """Updates of the last stage of `warmup_stable_decay`."""
    weight_decay: float = 0.1
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    """Larger gradients are scaled down to this norm; 0 leaves them."""

    bf16: bool = False
    """Compute in bfloat16 by autocast; the weights and the optimizer stay in float32."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them."""
    use_cpu: bool = False
    """Stay on the CPU although there is an accelerator."""
    ddp_find_unused_parameters: bool = False
    """For models that leave parameters out of some forward passes."""
    dataloader_num_workers: int = 0
    """Processes that read and collate rows; 0 does it in the training process."""
    seed: int = 0
    """Of the order of rows and of dropout."""

    logging_steps: int = 10
    """Updates between two lines of `metrics.jsonl`."""
    eval_steps: int | None = None
    """Updates between two evaluations on held-out rows; the last update ends with one anyway."""
    save_steps: int = 500
    """Updates between two checkpoints: what a kill can lose."""
    save_total_limit: int = 2
    """Checkpoints that are kept."""
    report_to: tuple[Reporter, ...] = ()
    """Where the metrics go besides `metrics.jsonl`."""

    def __post_init__(self) -> None:
        lengths = (self.max_steps, self.num_tokens, self.num_train_epochs)
        if sum(length is not None for length in lengths) != 1:
            raise ConfigError(
                "give exactly one of max_steps, num_tokens and num_train_epochs, got "
                f"{self.max_steps}, {self.num_tokens} and {self.num_train_epochs}"
            )
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not least <= value < math.inf:
                raise ConfigError(f"{name} must be at least {least} and finite, got {value}")
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name} must be larger than 0 and finite, got {value}")
        for name in _BELOW_ONE:
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        self._check_schedule()

    def _check_schedule(self) -> None:
        decays = self.lr_scheduler_type == "warmup_stable_decay"
        if decays != bool(self.num_decay_steps):
            raise ConfigError(
                "num_decay_steps belongs to lr_scheduler_type warmup_stable_decay, which needs it: "
                f"got {self.num_decay_steps} with {self.lr_scheduler_type}"
            )
