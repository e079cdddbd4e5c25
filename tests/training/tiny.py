"""A model, rows and options that are small enough to train in a moment."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from ragkit.data.collators import PackedCollator
from ragkit.data.packed import PackedRow
from ragkit.models import Llama3ForCausalLM
from ragkit.training import TrainingOptions, train

VOCAB, SEQ = 37, 11
EXACT_NAMES = ["step", "loss_nats", "grad_norm", "learning_rate", "num_tokens"]


def make_model(cls=Llama3ForCausalLM, *, seed=3, **changes):
    """A Llama of random weights."""
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": VOCAB,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    return cls(cls.config_class(**{**sizes, **changes}))


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


def make_packed_rows(num_rows=23, *, seed=1):
    """Rows of up to four documents of different lengths, most of them padded."""
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(num_rows):
        size = SEQ - int(generator.integers(3))
        cuts = generator.choice(np.arange(1, size), size=generator.integers(4), replace=False)
        lengths = np.diff([0, *np.sort(cuts), size])
        rows.append(PackedRow(generator.integers(VOCAB, size=size), lengths, SEQ - size))
    return rows


collate_packed = PackedCollator(pad_token_id=0, mask_documents=True)


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


def run(out, *, model=None, rows=None, collator=collate, options=None, **changes):
    """The report of a run of a tiny model."""
    return train(
        model or make_model(),
        make_rows() if rows is None else rows,
        collator=collator,
        options=options or make_options(**changes.pop("options_changes", {})),
        out=Path(out),
        **changes,
    )


def lines_of(out, name="metrics"):
    """The lines of a file of metrics."""
    return [json.loads(line) for line in (Path(out) / f"{name}.jsonl").read_text().splitlines()]


def weights_of(out):
    """The tensors of the trained model."""
    return load_file(Path(out) / "model" / "model.safetensors")


def assert_equal_weights(one, other):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)
