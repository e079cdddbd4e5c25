"""How long a run is, and its learning rates, as transformers' schedulers have them.

After `w` warm-up updates of `n`, with the peak `p`, the minimum `m` (a part of the peak) and
`x = (step - w) / (n - w)`:

* `cosine`: `p (m + (1 - m) (1 + cos(pi x)) / 2)`, by which Llama 3 was pretrained with `w = 8000`
  and `m = 0.01` (Llama team 2024, arXiv:2407.21783, section 3.4.1);
* `linear`: `p (1 - (1 - m) x)`, by which it was annealed with `m = 0` (section 3.4.3);
* `constant`: `p`;
* `warmup_stable_decay`: `p`, and over the last `num_decay_steps` updates down to `p m` on a line.

Warm-up rises on a line from 0, or for `warmup_stable_decay` from `p m`.
"""

import math
from typing import Any

from ragkit.errors import ConfigError
from ragkit.training.options import TrainingOptions


def count_steps(
    options: TrainingOptions, *, num_rows: int, row_tokens: int, num_processes: int
) -> int:
    """Updates of the whole run, rounded up.

    Args:
        num_rows: Rows of the dataset.
        row_tokens: Tokens of a row.
        num_processes: Processes that share the work.
    """
    if options.max_steps is not None:
        return options.max_steps
    rows_per_step = (
        options.per_device_train_batch_size * options.gradient_accumulation_steps * num_processes
    )
    if options.num_tokens is not None:
        return math.ceil(options.num_tokens / (rows_per_step * row_tokens))
    return math.ceil((options.num_train_epochs or 0) * num_rows / rows_per_step)


def scheduler_arguments(options: TrainingOptions, *, max_steps: int) -> dict[str, Any]:
    """The arguments of `TrainingArguments` that make the chosen schedule.

    Raises:
        ConfigError: The run is over before the peak is reached, or before the decay is done.
    """
    reached = options.warmup_steps < max_steps
    if not reached or options.warmup_steps + options.num_decay_steps > max_steps:
        raise ConfigError(
            f"warmup_steps {options.warmup_steps} and num_decay_steps {options.num_decay_steps} "
            f"do not fit into the {max_steps} steps of the run: shorten them or train longer"
        )
    name, keywords = _transformers_name(options)
    return {
        "lr_scheduler_type": name,
        "lr_scheduler_kwargs": keywords,
        "warmup_steps": options.warmup_steps,
    }


def _transformers_name(options: TrainingOptions) -> tuple[str, dict[str, Any]]:
    match options.lr_scheduler_type:
        case "cosine":
            return "cosine_with_min_lr", {"min_lr_rate": options.min_lr_rate}
        case "linear":
            return "polynomial", {
                "lr_end": options.min_lr_rate * options.learning_rate,
                "power": 1.0,
            }
        case "constant":
            return "constant_with_warmup", {}
        case "warmup_stable_decay":
            return "warmup_stable_decay", {
                "num_decay_steps": options.num_decay_steps,
                "min_lr_ratio": options.min_lr_rate,
                "decay_type": "linear",
            }
