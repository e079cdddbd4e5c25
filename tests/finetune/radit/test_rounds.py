import json
import shutil

import pytest

from ragkit import Retriever
from ragkit.config import load_config
from ragkit.errors import ConfigError
from ragkit.finetune.radit.ablation import run_ablation
from ragkit.finetune.radit.recipe import RaditRecipe
from ragkit.finetune.radit.rounds import find_tuned, run_rounds
from ragkit.models.loading import load_model
from tests.finetune.radit.tiny_run import NUM_TRAIN, write_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two rounds, its recipe and its summary."""
    path = write_run(tmp_path_factory.mktemp("radit"), rounds=2)
    recipe = load_config(RaditRecipe, path)
    return path, recipe, run_rounds(recipe)


def files_of(folder):
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file()
        and path.name not in ("LOCK", "summary.json")
        # Made of the kept weights each time, which is cheap.
        and "encoder" not in path.parts
    }


def test_each_round_goes_on_from_the_one_before(finished):
    path, _, summary = finished

    assert [sorted(facts) for facts in summary["rounds"]] == [["lm", "retriever"]] * 2
    assert summary["model"] == "round-2/lm/model"
    assert summary["query_encoder"] == "round-2/retriever/encoder"
    assert json.loads((path.parent / "run/summary.json").read_bytes()) == summary


def test_what_was_tuned_can_be_opened(finished):
    path, recipe, _ = finished

    tuned = find_tuned(recipe)

    model, _ = load_model(tuned.model)
    assert model.num_parameters() == load_model(recipe.model)[0].num_parameters()
    with Retriever.open(path.parent / "index", query_encoder=tuned.query_encoder) as retriever:
        assert len(retriever.search("the wing", 3)) == 3


def test_a_finished_run_is_not_touched_again(finished):
    path, recipe, summary = finished
    before = files_of(path.parent / "run")

    again = run_rounds(recipe)

    assert again == summary
    assert files_of(path.parent / "run") == before


def test_the_index_is_bit_identical_after_tuning(finished, tmp_path):
    path, _, _ = finished
    fresh = load_config(RaditRecipe, write_run(tmp_path))

    from ragkit.finetune.radit.rounds import prepare_index

    infos = [Retriever.open(p).info() for p in (path.parent / "index", prepare_index(fresh))]
    assert infos[0].content_hash == infos[1].content_hash


def test_another_recipe_in_the_same_folder_is_refused(finished):
    path, _, _ = finished

    with pytest.raises(ConfigError, match="choose another folder, or overwrite"):
        run_rounds(load_config(RaditRecipe, path, ["seed=5"]))
    with pytest.raises(ConfigError, match="choose another folder, or overwrite"):
        run_ablation(load_config(RaditRecipe, path, ["seed=5"]))


def test_a_stage_that_is_null_leaves_its_model_alone(tmp_path):
    recipe = load_config(RaditRecipe, write_run(tmp_path, lm=None))

    summary = run_rounds(recipe)

    assert summary["model"] is None
    assert list(summary["rounds"][0]) == ["retriever"]
    assert find_tuned(recipe).model is None


def test_a_recipe_that_tunes_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="give at least one of them"):
        load_config(RaditRecipe, write_run(tmp_path, lm=None, retriever=None))


def test_the_arms_differ_only_in_what_was_tuned(finished):
    path, recipe, _ = finished

    report = run_ablation(recipe)

    assert list(report["arms"]) == ["closed_book", "none", "lm_ft", "r_ft", "both"]
    for name, found in report["arms"].items():
        assert {"mean", "low", "high"} <= set(found["em"])
        assert ("recall@2" in found) == (name != "closed_book")
    assert report["arms"]["none"]["recall@2"] == report["arms"]["lm_ft"]["recall@2"]
    assert report["questions"] == len((path.parent / "data/test.jsonl").read_text().splitlines())


def test_answers_are_kept_and_not_given_again(finished):
    path, recipe, _ = finished
    report = run_ablation(recipe)
    answers = path.parent / "run/ablation/both/evaluations.jsonl"
    lines = answers.read_text().splitlines()
    answers.write_text("\n".join([*lines[:2], lines[2][:9]]))  # a kill tore the third

    again = run_ablation(recipe)

    assert again == report
    assert answers.read_text().splitlines() == lines


def test_examples_may_come_more_often_than_once(tmp_path):
    recipe = load_config(RaditRecipe, write_run(tmp_path), ["lm.num_examples=20"])

    summary = run_rounds(recipe)

    assert summary["rounds"][0]["lm"]["instances"] == 40
    assert summary["rounds"][0]["lm"]["candidates"]["num_examples"] == NUM_TRAIN


def test_other_questions_of_the_same_ids_are_refused(tmp_path):
    recipe = load_config(RaditRecipe, write_run(tmp_path, retriever=None))
    run_rounds(recipe)
    questions = tmp_path / "data/train.jsonl"
    questions.write_text(questions.read_text().replace("which number", "what number"))

    with pytest.raises(ConfigError, match="choose another folder, or overwrite"):
        run_rounds(recipe)

    assert run_rounds(recipe, overwrite=True)["model"] == "round-1/lm/model"


def test_several_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")

    with pytest.raises(ConfigError, match="start without accelerate launch"):
        run_rounds(load_config(RaditRecipe, write_run(tmp_path)))


def test_sets_may_have_ids_in_common(tmp_path):
    tasks = [
        {"name": "asked", "file": "train.jsonl"},
        {"name": "read", "file": "train.jsonl", "task": "reading_comprehension"},
    ]
    tasks[1] |= {"passages": "passages.jsonl", "for_retriever": False}
    recipe = load_config(RaditRecipe, write_run(tmp_path, tasks=tasks))

    [facts] = run_rounds(recipe)["rounds"]

    num_learnt = NUM_TRAIN - 3  # three of each set are held out
    assert facts["lm"]["examples"] == 2 * num_learnt
    assert facts["lm"]["instances"] == 3 * num_learnt  # two passages, or its own
    assert facts["lm"]["candidates"]["num_examples"] == NUM_TRAIN
    assert facts["retriever"]["rows"] == num_learnt


def test_a_finished_run_may_be_moved(finished, tmp_path):
    path, _, summary = finished
    moved = tmp_path / "moved"
    shutil.copytree(path.parent / "run", moved)

    assert run_rounds(load_config(RaditRecipe, path, [f"out={moved}"])) == summary


def test_a_changed_question_is_not_answered_by_an_old_answer(tmp_path):
    recipe = load_config(RaditRecipe, write_run(tmp_path, retriever=None))
    run_ablation(recipe)
    questions = tmp_path / "data/test.jsonl"
    questions.write_text(questions.read_text().replace("which number", "what number"))

    with pytest.raises(ConfigError, match="overwrite this run"):
        run_ablation(recipe)
