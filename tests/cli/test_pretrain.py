import json

import pytest

from tests.cli.running import run

RECIPE = """
kind: pretrain
data_dir: {folder}
inputs: [corpus.jsonl]
tokens: {folder}/tokens
vocab_size: 280
out: {folder}/run
model: {{kind: llama3, hidden_size: 24, intermediate_size: 40, num_hidden_layers: 1,
  num_attention_heads: 6, num_key_value_heads: 2, max_position_embeddings: 64}}
packing: {{context_length: 32, held_out_share: 0.2}}
training: {{max_steps: 2, per_device_train_batch_size: 3, learning_rate: 0.01}}
"""


@pytest.fixture
def recipe(tmp_path):
    with (tmp_path / "corpus.jsonl").open("w") as file:
        for number in range(13):
            text = "the drag of a wing in a supersonic flow " * (1 + number % 3)
            file.write(json.dumps({"id": str(number), "text": text + str(number)}) + "\n")
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(folder=tmp_path))
    return path


def test_a_recipe_becomes_a_model_and_is_finished_when_run_again(recipe):
    first = run("pretrain", recipe, "--json")
    again = run("pretrain", recipe, "--json")

    report = json.loads(first.stdout)
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert next(iter(report)) == "schema"
    assert report["steps"] == 2
    assert json.loads(again.stdout) == report
    assert (recipe.parent / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_another_length_in_the_same_folder_is_refused_until_overwrite(recipe):
    run("pretrain", recipe)

    refused = run("pretrain", recipe, "training.max_steps=3", "--json")
    replaced = run("pretrain", recipe, "training.max_steps=3", "--json", "--overwrite")

    assert refused.exit_code == 2
    assert "max_steps" in json.loads(refused.stdout)["hint"]
    assert json.loads(replaced.stdout)["steps"] == 3


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("training.learning_rat=1", "learning_rat"),
        ("model.num_attention_heads=7", "num_attention_heads"),
        ("packing.context_length=65", "max_position_embeddings"),
        ("model.kind=moe", "model.kind must be llama3"),
        ("training.learning_rate=nan", "learning_rate"),
        ("inputs=[nowhere.jsonl]", "nowhere.jsonl"),
        ("vocab_size=9999", "vocab_size"),
        ("held_out_share", "expected key=value"),
    ],
)
def test_a_mistake_is_named_without_a_traceback(recipe, override, hint):
    result = run("pretrain", recipe, override, "--json")

    assert result.exit_code in {2, 3}
    assert hint in json.loads(result.stdout)["hint"]
    assert "Traceback" not in result.stderr


def test_a_recipe_of_another_kind_names_its_command():
    result = run("pretrain", "retrieval/cranfield", "--json")

    assert result.exit_code == 2
    assert "ragkit eval" in json.loads(result.stdout)["hint"]
