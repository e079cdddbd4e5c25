import json

import pytest
import yaml

from tests.cli.running import run
from tests.finetune.radit.tiny_run import write_run

ARMS = ["closed_book", "none", "lm_ft", "r_ft", "both"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe whose models are tuned."""
    path = write_run(tmp_path_factory.mktemp("finetune"))
    assert run("finetune", path, "--quiet").exit_code == 0
    return path


def test_a_finished_run_is_told_as_one_object(recipe):
    result = run("finetune", recipe, "--json")

    summary = json.loads(result.stdout)
    assert result.exit_code == 0, result.stderr
    assert next(iter(summary)) == "schema"
    assert (summary["model"], len(summary["rounds"])) == ("round-1/lm/model", 1)


def test_a_finished_run_is_shown_as_a_table(recipe):
    result = run("finetune", recipe)

    assert result.exit_code == 0, result.stderr
    assert "held out loss nats" in result.stdout


def test_arms_are_compared_with_intervals(recipe):
    result = run("ablate", recipe, "--json")

    report = json.loads(result.stdout)
    assert result.exit_code == 0, result.stderr
    assert report["schema"] == "ragkit.ablate/1"
    assert list(report["arms"]) == ARMS
    for found in report["arms"].values():
        assert found["f1"]["low"] <= found["f1"]["mean"] <= found["f1"]["high"]
    assert {"recall@1", "recall@2"} <= report["arms"]["both"].keys()


def test_arms_are_shown_as_a_table(recipe):
    result = run("ablate", recipe)

    assert result.exit_code == 0, result.stderr
    assert "closed" in result.stdout


def test_other_questions_in_the_same_folder_are_refused(recipe):
    assert run("ablate", recipe, "--quiet").exit_code == 0

    result = run("ablate", recipe, "test.num_questions=2")

    assert result.exit_code == 2
    assert "overwrite" in result.stderr
    assert run("ablate", recipe, "test.num_questions=2", "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ("rounds=0", "rounds must be 1 or more"),
        ("max_length=4096", "raise the one or lower the other"),
        ("retriever.training.warmup_steps=99", "warm"),
        ("corpus.inputs=[none.jsonl]", "none.jsonl"),
        ("tasks=[{name: a, file: none.jsonl}]", "none.jsonl"),
        ("num_held_out=500", "lower num_held_out"),
        ("num_held_out=0", "num_held_out must be 1 or more"),
        ("test.batch_size=0", "batch_size must be 1 or more"),
        ("retriever.temperature=.nan", "temperature must be above 0"),
        ("retriever_temperature=.inf", "retriever_temperature must be above 0"),
        ("retriever.training={num_tokens: 100}", "give max_steps or num_train_epochs"),
        ("model=no-such-folder/lm", "no-such-folder"),
        ("no_such_key=1", "no_such_key"),
    ],
)
def test_a_recipe_that_cannot_run_is_refused_without_a_traceback(recipe, tmp_path, change, hint):
    result = run("finetune", recipe, f"out={tmp_path / 'run'}", change)

    assert result.exit_code not in (0, 1)
    assert hint in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_a_recipe_without_a_test_has_nothing_to_compare(recipe, tmp_path):
    tree = yaml.safe_load(recipe.read_text())
    bare = tmp_path / "bare.yaml"
    bare.write_text(yaml.safe_dump({name: x for name, x in tree.items() if name != "test"}))

    result = run("ablate", bare)

    assert result.exit_code == 2
    assert "add the file of its questions" in " ".join(result.stderr.split())


def test_what_was_tuned_answers_questions(recipe):
    tuned = recipe.parent / "run/round-1"

    result = run(
        *("generate", tuned / "lm/model", "which number has the wing?"),
        *("--index", recipe.parent / "index", "--query-encoder", tuned / "retriever/encoder"),
        *("--max-new-tokens", "3", "--json"),
    )

    assert result.exit_code == 0, result.stderr
    assert len(json.loads(result.stdout)["passages"]) == 3
