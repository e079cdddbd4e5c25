"""Runs of adapters that are wrapped around a model."""

import signal
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from ragkit.models import Llama3ForCausalLM
from ragkit.training import HeldOut
from tests.training.processes import run_alone
from tests.training.test_resume import Dying, assert_same_metrics
from tests.training.tiny import (
    assert_equal_weights,
    collate_packed,
    lines_of,
    make_model,
    make_options,
    make_packed_rows,
    make_rows,
    run,
)


def make_adapted(cls=Llama3ForCausalLM, *, dropout=0.0, base_dtype=torch.float32):
    """A model with adapters of random weights around all of its linear layers."""
    base = make_model(cls).to(base_dtype)
    targets = LoraConfig(
        r=3, target_modules="all-linear", lora_dropout=dropout, task_type="CAUSAL_LM"
    )
    return get_peft_model(base, targets)


def adapter_of(out):
    """The tensors of the trained adapter."""
    return load_file(Path(out) / "adapter" / "adapter_model.safetensors")


def frozen_weights(model):
    return {
        name: tensor.clone()
        for name, tensor in model.named_parameters()
        if not tensor.requires_grad
    }


def train_dropout(out, *, dies_at=None):
    return run(
        out,
        model=make_adapted(dropout=0.3),
        rows=make_packed_rows(),
        collator=collate_packed,
        objective=Dying(dies_at) if dies_at else None,
        options=make_options(eval_steps=5),
        held_out=HeldOut(make_packed_rows(5, seed=2), num_bytes=100),
    )


def train_dropout_and_die(out, dies_at):
    train_dropout(out, dies_at=dies_at)


@pytest.mark.parametrize("cls", [LlamaForCausalLM, Llama3ForCausalLM])
def test_adapters_alone_are_trained_and_saved(tmp_path, cls):
    model = make_adapted(cls)
    frozen = frozen_weights(model)

    report = run(tmp_path, model=model)

    assert_equal_weights(frozen_weights(model), frozen)
    assert {path.name for path in report.adapter.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert not report.model.exists()
    saved = adapter_of(tmp_path)
    assert all("lora_" in name for name in saved)
    assert all(tensor.any() for tensor in saved.values())  # B begins at 0


def test_the_saved_adapter_makes_the_trained_model(tmp_path):
    model = make_adapted()
    ids = torch.tensor(make_rows(3, seed=4))

    report = run(tmp_path, model=model)

    opened = PeftModel.from_pretrained(make_model(), report.adapter)
    with torch.no_grad():
        logits = [one.eval()(input_ids=ids).logits for one in (opened, model, make_model())]
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=0)
    assert not torch.allclose(logits[0], logits[2])


def test_a_checkpoint_holds_no_weights_but_the_adapter(tmp_path):
    run(tmp_path, model=make_adapted())

    files = [*(tmp_path / "checkpoints" / "checkpoint-8").iterdir()]

    weights = [path.name for path in files if path.suffix in (".safetensors", ".bin")]
    assert sorted(weights) == ["adapter_model.safetensors", "training_args.bin"]


def test_a_killed_run_ends_with_the_adapter_and_metrics_of_an_undisturbed_one(tmp_path):
    # Two backward passes an update; checkpoints after the fourth and the eighth of ten updates.
    train_dropout(tmp_path / "whole")
    assert run_alone(train_dropout_and_die, tmp_path / "cut", 19) == -signal.SIGKILL

    report = train_dropout(tmp_path / "cut")

    assert report.resumed_from == 8
    assert_equal_weights(adapter_of(tmp_path / "cut"), adapter_of(tmp_path / "whole"))
    assert_same_metrics(tmp_path / "cut", tmp_path / "whole")


def test_a_frozen_base_may_be_in_bfloat16(tmp_path):
    model = make_adapted(base_dtype=torch.bfloat16)

    changes = {"bf16": True, "max_steps": 30}
    report = run(tmp_path, model=model, rows=make_rows(4), options_changes=changes)

    assert {tensor.dtype for tensor in adapter_of(tmp_path).values()} == {torch.float32}
    assert {tensor.dtype for tensor in frozen_weights(model).values()} == {torch.bfloat16}
    assert report.loss_nats < lines_of(tmp_path)[0]["loss_nats"]


def test_checkpointed_activations_change_nothing(tmp_path):
    for name, on in (("kept", False), ("again", True)):
        changes = {"activation_checkpointing": on}
        run(tmp_path / name, model=make_adapted(), options_changes=changes)

    assert_equal_weights(adapter_of(tmp_path / "kept"), adapter_of(tmp_path / "again"))


def test_a_run_of_all_weights_may_take_the_place_of_an_adapter(tmp_path):
    run(tmp_path, model=make_adapted())

    report = run(tmp_path, overwrite=True)

    assert report.model.is_dir()
    assert not report.adapter.exists()
