"""A model, rows and options that are small enough to train in a moment."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from ragkit.training import TrainingOptions, train

VOCAB, SEQ = 37, 11
EXACT_NAMES = ["step", "loss_nats", "grad_norm", "learning_rate", "num_tokens"]


def make_model(cls=LlamaForCausalLM, *, seed=3, **changes):
    """A Llama of random weights."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=64,
        **changes,
    )
    return cls(config)


def make_rows(num_rows=23, *, seed=1):
    """Rows of random tokens."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCAB, (num_rows, SEQ), generator=generator).tolist()


def collate(rows):
    """A batch in which the first token of a row is no target, nor is any token 0."""
    ids = torch.tensor(rows)
    labels = ids.masked_fill(ids == 0, -100)
    labels[:, 0] = -100
    return {"input_ids": ids, "labels": labels}


def make_options(**changes):
    """Options of a run of ten updates."""
    options = {
        "max_steps": 10,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-2,
        "warmup_steps": 3,
        "logging_steps": 3,
        "save_steps": 4,
    }
    return TrainingOptions(**{**options, **changes})


def run(out, *, model=None, rows=None, options=None, **changes):
    """The report of a run of a tiny model."""
    return train(
        model or make_model(),
        make_rows() if rows is None else rows,
        collator=collate,
        options=options or make_options(**changes.pop("options_changes", {})),
        out=Path(out),
        **changes,
    )


def lines_of(out, name="metrics"):
    """The lines of a journal."""
    return [json.loads(line) for line in (Path(out) / f"{name}.jsonl").read_text().splitlines()]


def weights_of(out):
    """The tensors of the trained model."""
    return load_file(Path(out) / "model" / "model.safetensors")


def assert_equal_weights(one, other):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)
