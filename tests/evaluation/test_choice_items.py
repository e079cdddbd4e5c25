import json

import pytest

from ragkit.errors import ConfigError, DataError
from ragkit.evaluation.choice_items import read_choices
from ragkit.evaluation.choices import ChoiceItem

LINES = [
    {"question": "Which flies?", "choices": ["a wing", "a stone"], "answer": 0},
    {"question": "Which {sinks}?", "choices": ["cork", "wood", "iron"], "answer": 2},
]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text("\n\n".join(map(json.dumps, LINES)))
    return path


def test_items_come_in_the_order_of_the_file(path):
    assert read_choices(path) == [
        ChoiceItem("Question: Which flies?\nAnswer:", ("a wing", "a stone"), 0),
        ChoiceItem("Question: Which {sinks}?\nAnswer:", ("cork", "wood", "iron"), 2),
    ]


def test_the_limit_keeps_the_first_items(path):
    assert len(read_choices(path, limit=1)) == 1


def test_the_context_may_be_another(path):
    [item, _] = read_choices(path, context="{question}")

    assert item.context == "Which flies?"


def test_a_context_with_an_unknown_key_lists_the_keys(path):
    with pytest.raises(ConfigError, match="keys of the line, question, choices, answer"):
        read_choices(path, context="{query}")


@pytest.mark.parametrize(
    "context", ["{question.foo}", "{question[a]}", "{question", "{0}", "{choices[9]}"]
)
def test_a_context_that_does_not_fit_is_shown(path, context):
    with pytest.raises(ConfigError, match=r"items\.jsonl:1: the context .* does not fit"):
        read_choices(path, context=context)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(path, limit):
    with pytest.raises(ConfigError, match="limit must be 1 or more"):
        read_choices(path, limit=limit)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1]",
        '{"choices": ["a", 2], "answer": 0}',
        '{"choices": ["a", "b"], "answer": "0"}',
        '{"choices": ["a", "b"], "answer": true}',
        '{"answer": 0}',
        pytest.param("[" * 100_000, id="a list of lists"),
    ],
)
def test_a_malformed_line_is_named(path, line):
    path.write_text(f"{json.dumps(LINES[0])}\n{line}\n")

    with pytest.raises(DataError, match=r"items\.jsonl:2: "):
        read_choices(path)


def test_a_file_without_a_question_is_refused(path):
    path.write_text("\n")

    with pytest.raises(DataError, match="holds no question"):
        read_choices(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="check the path"):
        read_choices(tmp_path / "none.jsonl")
