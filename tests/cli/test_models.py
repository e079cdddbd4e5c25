import json

import pytest
from transformers import AutoModelForCausalLM

from tests.cli.running import run
from tests.models.checkpoints import write_llama

DESCRIBED = [
    "parameters",
    "non_embedding_parameters",
    "flops_per_token",
    "kv_bytes_per_token",
    "optimizer_bytes",
]


def read_json(result):
    """The one object on stdout; it starts with its schema."""
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert next(iter(found)) == "schema"
    return found


def test_the_list_has_every_preset():
    found = read_json(run("models", "list", "--json"))

    assert found["schema"] == "ragkit.models_list/1"
    sizes = {one["name"]: one["parameters"] for one in found["presets"]}
    assert sizes["llama3.1-405b"] == 405_853_388_800
    assert len(sizes) == 8


def test_the_list_is_a_table_for_people():
    shown = run("models", "list")

    assert shown.exit_code == 0
    assert "8,030,261,248" in shown.stdout


def test_a_description_has_the_keys_that_scripts_read():
    found = read_json(run("models", "describe", "llama3.2-1b", "--json"))

    assert found["schema"] == "ragkit.models_describe/1"
    assert all(isinstance(found[key], int) for key in DESCRIBED)


def test_a_description_is_a_table_for_people():
    shown = run("models", "describe", "llama3.2-1b")

    assert shown.exit_code == 0
    assert "1,235,814,400" in shown.stdout
    assert "True" in shown.stdout


def test_a_checkpoint_is_exported(tmp_path):
    folder = write_llama(tmp_path / "model")

    found = read_json(run("models", "export", folder, "-o", tmp_path / "out", "--json"))

    assert found == {
        "schema": "ragkit.models_export/1",
        "ok": True,
        "path": str(tmp_path / "out"),
    }
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").num_parameters() > 0


def test_an_export_replaces_a_model_only_when_told(tmp_path):
    folder, out = write_llama(tmp_path / "model"), write_llama(tmp_path / "out", seed=1)

    refused = run("models", "export", folder, "-o", out)
    done = run("models", "export", folder, "-o", out, "--overwrite")

    assert (refused.exit_code, done.exit_code) == (2, 0)
    assert "--overwrite" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["describe", "llama3.1-8bb"], "did you mean llama3.1-8b"),
        (["describe", "./absent"], "no model at './absent'"),
        (["describe", "llama3-8b", "--context-length", "8193"], "max_position_embeddings"),
        (["describe", "package:ragkit_absent"], "pip install ragkit-absent"),
        (["export", "./absent", "-o", "out"], "no model at './absent'"),
        (["export", "llama3-8b", "-o", "out"], "is a preset, which has sizes but no weights"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, monkeypatch, arguments, hint):
    monkeypatch.chdir(tmp_path)

    failed = run("models", *arguments)
    as_json = run("models", *arguments, "--json")

    assert failed.exit_code == as_json.exit_code != 0
    assert failed.stdout == ""
    assert hint in failed.stderr
    assert "Traceback" not in failed.stderr
    assert hint in json.loads(as_json.stdout)["hint"]
