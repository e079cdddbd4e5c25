"""How many updates a run has."""

import math

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
