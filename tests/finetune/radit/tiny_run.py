"""A whole run of RA-DIT with models of random weights, small enough for a test."""

import json

import yaml

from ragkit.models.tokenizer import choose_pad_token
from ragkit.testing import write_tiny_encoder
from tests.evaluation.models import tiny_bpe, tiny_llama

PLACES = ("wing", "flow", "heat", "drag", "shock", "layer", "query")
NUM_TRAIN, NUM_TEST = 17, 5


def write_run(folder, **changes):
    """A recipe with its data and models below `folder`; the path of the recipe."""
    write_models(folder)
    write_data(folder / "data")
    recipe = {
        "kind": "radit",
        "data_dir": str(folder / "data"),
        "out": str(folder / "run"),
        "model": str(folder / "lm"),
        "corpus": {
            "inputs": ["passages.jsonl"],
            "index": str(folder / "index"),
            "build": {"encoder": str(folder / "encoder"), "ann": "exact", "dtype": "fp32"},
        },
        "tasks": [{"name": "places", "file": "train.jsonl"}],
        "max_length": 96,
        "num_held_out": 3,
        "lm": {
            "num_passages": 2,
            "tuning": {"context_length": 128, "training": training(learning_rate=1e-3)},
        },
        "retriever": {
            "num_passages": 4,
            "score": "mean_logprob",
            "temperature": 0.1,
            "training": training(eval_steps=2),
        },
        "test": {"file": "test.jsonl", "k": 2, "max_new_tokens": 3, "batch_size": 2},
        **changes,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def training(**changes):
    return {
        "max_steps": 4,
        "per_device_train_batch_size": 3,
        "save_steps": 1,
        "logging_steps": 1,
        "use_cpu": True,
        **changes,
    }


def write_models(folder):
    tokenizer = tiny_bpe()
    choose_pad_token(tokenizer)
    tokenizer.save_pretrained(folder / "lm")
    tiny_llama(max_position_embeddings=160).save_pretrained(folder / "lm")
    write_tiny_encoder(folder / "encoder")


def write_data(folder):
    folder.mkdir(parents=True, exist_ok=True)
    passages = [
        {"id": f"{a}-{b}", "title": a, "text": f"the {a} of the {b} is number {i}"}
        for i, (a, b) in enumerate((a, b) for a in PLACES for b in PLACES[:3])
    ]
    rows = [
        {
            "id": f"q{i}",
            "question": f"which number has the {passages[i]['title']} of {i} ?",
            "answers": [f"number {i}"],
            "passage_id": passages[i % len(passages)]["id"],
        }
        for i in range(len(passages))
    ]
    write(folder / "passages.jsonl", passages)
    write(folder / "train.jsonl", rows[:NUM_TRAIN])
    write(folder / "test.jsonl", rows[-min(NUM_TEST, len(rows) - NUM_TRAIN) :])


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
