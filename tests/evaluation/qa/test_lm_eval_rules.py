import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ragkit.evaluation.qa.lm_eval_rules import without_longer
from ragkit.evaluation.qa.rules import find_rules

WORDS = st.sampled_from(
    ["The", "the", "An", "AN", "a", "A", "theme", "J.", "K.", "Rowling", "1,000", "!", ""]
)
TEXTS = st.lists(WORDS, max_size=6).map(" ".join)
GOLDS = st.lists(TEXTS.filter(bool), min_size=1, max_size=4)
ROWS = {
    "nq_open": {"question": "who", "answer": ["x", "y"]},
    "triviaqa": {"question": "who", "answer": {"aliases": ["x", "y"]}},
    "webqs": {"question": "who", "answers": ["x", "y"]},
}


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    """The harness's own tasks, each over one local row."""
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks.webqs import utils

    folder, tasks = tmp_path_factory.mktemp("harness"), []
    shipped = Path(lm_eval.__file__).parent / "tasks"
    for name, row in ROWS.items():
        data = folder / f"{name}.jsonl"
        data.write_text(json.dumps(row))
        [path] = [
            each
            for each in (shipped / name).glob("*.yaml")
            if f"\ntask: {name}\n" in f"\n{each.read_text()}"
        ]
        task = yaml.safe_load(path.read_text().replace("!function", ""))
        task |= {
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder)},
            "training_split": None,
            "validation_split": None,
            "test_split": "test",
            "tag": None,
        }
        if name == "webqs":
            task |= {"doc_to_choice": utils.doc_to_choice, "doc_to_target": utils.doc_to_target}
        tasks.append(task)
    return TaskManager(include_defaults=False).load(tasks)["tasks"]


def score_generated(task, row, answer):
    """What the harness makes of a text that the model would have gone on with."""
    from lm_eval.filters.extraction import WhitespaceFilter
    from lm_eval.models.utils import postprocess_generated_text

    stops = task.config.generation_kwargs["until"]
    cut = postprocess_generated_text(answer, stop=stops, think_end_token=None)
    [filtered] = WhitespaceFilter().apply([[cut]], [row])
    return task.process_results(row, filtered)["exact_match"]


def score_ours(name, answer, golds):
    rules = find_rules(f"lm-eval/{name}")
    return rules.metrics["exact_match"](rules.cut(answer), golds)


@given(answer=TEXTS, golds=GOLDS)
def test_nq_open_scores_as_in_the_harness(harness, answer, golds):
    row = {"question": "who", "answer": golds}

    expected = score_generated(harness["nq_open"], row, f" {answer}")

    assert score_ours("nq_open", f" {answer}", golds) == expected


@given(answer=TEXTS, golds=GOLDS)
def test_triviaqa_scores_as_in_the_harness(harness, answer, golds):
    row = {"question": "who", "answer": {"aliases": golds}}

    expected = score_generated(harness["triviaqa"], row, f" {answer}")

    assert score_ours("triviaqa", f" {answer}", golds) == expected


@given(answer=TEXTS, golds=GOLDS)
def test_webqs_scores_as_in_the_harness(harness, answer, golds):
    row = {"question": "who", "answers": [*golds]}
    choices = harness["webqs"].doc_to_choice(row)
    greedy = [(-1.0, f" {answer}".startswith(f" {choice}")) for choice in choices]

    expected = harness["webqs"].process_results(row, greedy)["exact_match"]

    assert score_ours("webqs", f" {answer}", golds) == expected


@given(golds=GOLDS)
def test_webqs_asks_for_the_shortest_of_each_beginning(golds):
    utils = pytest.importorskip("lm_eval.tasks.webqs.utils")

    assert without_longer(golds) == utils.doc_to_choice({"answers": [*golds]})


@pytest.mark.parametrize(
    ("name", "answer", "gold", "score"),
    [
        ("nq_open", "J. K. Rowling", "J. K. Rowling", 0),  # cut at the first full stop
        ("nq_open", "the Nile\nQ: who", "Nile", 1),
        ("nq_open", "AN end", "end", 0),  # no spelling that it knows
        ("nq_open", "New  York", "New York", 0),  # spaces are not squeezed
        ("triviaqa", "the Nile", "Nile", 0),  # articles stay
        ("webqs", "Paris, of course", "Paris", 1),
    ],
)
def test_the_traps_are_those_of_the_harness(name, answer, gold, score):
    assert score_ours(name, answer, [gold]) == score
    assert find_rules("squad").metrics["em"]("J. K. Rowling", ["J. K. Rowling"]) == 1
