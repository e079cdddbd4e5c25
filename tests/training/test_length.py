import pytest

from ragkit.training import TrainingOptions
from ragkit.training.length import count_steps

SIZES = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 5}  # 30 rows by two


@pytest.mark.parametrize(
    ("length", "steps"),
    [
        ({"max_steps": 4}, 4),
        ({"num_tokens": 7 * 30 * 2}, 2),
        ({"num_tokens": 7 * 30 * 2 + 1}, 3),
        ({"num_train_epochs": 1.0}, 4),
        ({"num_train_epochs": 0.5}, 2),
        ({"num_train_epochs": 3.0}, 10),
    ],
)
def test_a_run_is_as_long_as_was_asked_for_and_ends_with_a_whole_update(length, steps):
    options = TrainingOptions(**SIZES, **length)

    assert count_steps(options, num_rows=100, row_tokens=7, num_processes=2) == steps
