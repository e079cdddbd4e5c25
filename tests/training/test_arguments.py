import pytest

from ragkit.errors import ConfigError, MissingDependencyError
from ragkit.training.arguments import FSDP_VARIABLE, PRECISION_VARIABLE, make_arguments
from tests.training.tiny import make_options


def arguments_of(out, **changes):
    return make_arguments(make_options(**changes), max_steps=10, out=out, evaluates=False)


def test_an_fsdp_configuration_is_refused_on_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setenv(FSDP_VARIABLE, "true")

    with pytest.raises(ConfigError, match=r"launch with recipes/accelerate/ddp\.yaml"):
        arguments_of(tmp_path, use_cpu=True)


@pytest.mark.parametrize(("precision", "bf16"), [("fp16", False), ("bf16", False), ("fp16", True)])
def test_a_precision_that_the_options_do_not_ask_for_is_refused(
    tmp_path, monkeypatch, precision, bf16
):
    monkeypatch.setenv(PRECISION_VARIABLE, precision)

    with pytest.raises(ConfigError, match=f"mixed_precision {precision} .* bf16 {bf16}: set mixed"):
        arguments_of(tmp_path, use_cpu=True, bf16=bf16)


def test_a_reporter_that_is_not_installed_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [])

    with pytest.raises(MissingDependencyError, match="run `pip install wandb`"):
        arguments_of(tmp_path, report_to=("wandb",))


def test_options_reach_transformers_under_their_names(tmp_path):
    arguments = arguments_of(tmp_path, use_cpu=True, bf16=True, adam_beta2=0.9, save_steps=5)

    assert (arguments.bf16, arguments.adam_beta2, arguments.save_steps) == (True, 0.9, 5)
    assert (arguments.max_steps, arguments.save_total_limit) == (10, None)
    assert arguments.lr_scheduler_type == "cosine_with_min_lr"
    assert arguments.use_cache is False
