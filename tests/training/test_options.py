import pytest
import yaml

from ragkit.config import dump_config, fit_config
from ragkit.errors import ConfigError
from ragkit.training import TrainingOptions


@pytest.mark.parametrize(
    "lengths", [{}, {"max_steps": 3, "num_tokens": 5}, {"num_tokens": 5, "num_train_epochs": 1.0}]
)
def test_a_run_needs_exactly_one_length(lengths):
    with pytest.raises(ConfigError, match="give exactly one of max_steps, num_tokens"):
        TrainingOptions(**lengths)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"max_steps": 0}, "max_steps must be at least 1 and finite, got 0"),
        (
            {"learning_rate": float("nan")},
            "learning_rate must be larger than 0 and finite, got nan",
        ),
        ({"max_grad_norm": float("inf")}, "max_grad_norm must be at least 0 and finite, got inf"),
        ({"save_steps": 0}, "save_steps must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"learning_rate": 0.0}, "learning_rate must be larger than 0"),
        ({"adam_beta2": 1.0}, r"adam_beta2 must be in \[0, 1\)"),
        ({"min_lr_rate": -0.1}, "min_lr_rate must be in"),
        ({"num_decay_steps": 2}, "num_decay_steps belongs to lr_scheduler_type"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "which needs it: got 0"),
    ],
)
def test_a_number_out_of_range_is_refused(wrong, hint):
    with pytest.raises(ConfigError, match=hint):
        TrainingOptions(**{"max_steps": 3, **wrong})


def test_an_unknown_key_is_refused_by_name():
    with pytest.raises(ConfigError, match="learning_rat: Unexpected"):
        fit_config(TrainingOptions, {"max_steps": 3, "learning_rat": 0.1}, origin="a recipe")


def test_options_come_back_from_yaml():
    options = TrainingOptions(num_tokens=7, report_to=("tensorboard",), adam_epsilon=1e-7)

    tree = yaml.safe_load(dump_config(options))

    assert fit_config(TrainingOptions, tree, origin="a recipe") == options
