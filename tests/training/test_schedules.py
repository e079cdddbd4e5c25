"""Each schedule against its closed form, and how long runs are."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_scheduler

from ragkit.errors import ConfigError
from ragkit.training import TrainingOptions
from ragkit.training.schedules import count_steps, scheduler_arguments

PEAK, MINIMUM, DECAY = 3e-4, 0.07, 4
SHAPES = {
    "cosine": lambda part: MINIMUM + (1 - MINIMUM) * (1 + math.cos(math.pi * part)) / 2,
    "linear": lambda part: 1 - (1 - MINIMUM) * part,
    "constant": lambda part: 1.0,
}


def rates(options, max_steps):
    """The learning rate of every update."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=options.learning_rate)
    arguments = scheduler_arguments(options, max_steps=max_steps)
    scheduler = get_scheduler(
        arguments["lr_scheduler_type"],
        optimizer,
        num_warmup_steps=arguments["warmup_steps"],
        num_training_steps=max_steps,
        scheduler_specific_kwargs=arguments["lr_scheduler_kwargs"],
    )
    found = []
    for _ in range(max_steps + 1):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("name", SHAPES)
@given(warmup=st.integers(0, 9), after=st.integers(1, 13))
def test_a_schedule_is_its_closed_form(name, warmup, after):
    options = TrainingOptions(
        max_steps=1,
        learning_rate=PEAK,
        lr_scheduler_type=name,
        warmup_steps=warmup,
        min_lr_rate=MINIMUM,
    )

    found = rates(options, warmup + after)

    expected = [PEAK * step / warmup for step in range(warmup)]
    expected += [PEAK * SHAPES[name](step / after) for step in range(after + 1)]
    assert found == pytest.approx(expected, rel=1e-12)  # float64, in another order of products


def test_the_stable_stage_stays_and_the_last_stage_falls_on_a_line():
    options = TrainingOptions(
        max_steps=1,
        learning_rate=PEAK,
        lr_scheduler_type="warmup_stable_decay",
        warmup_steps=3,
        num_decay_steps=DECAY,
        min_lr_rate=MINIMUM,
    )

    found = rates(options, 12)

    warming = [MINIMUM + (1 - MINIMUM) * step / 3 for step in range(3)]
    falling = [SHAPES["linear"](step / DECAY) for step in range(DECAY + 1)]
    assert found == pytest.approx([PEAK * part for part in [*warming, *[1.0] * 5, *falling]])


@pytest.mark.parametrize("max_steps", [2, 3])
def test_a_warm_up_that_does_not_end_before_the_run_is_refused(max_steps):
    options = TrainingOptions(max_steps=max_steps, warmup_steps=3)

    with pytest.raises(ConfigError, match="shorten them or train longer"):
        scheduler_arguments(options, max_steps=max_steps)


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
