import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import ConfigError, DataError
from ragkit.evaluation.qa.questions import (
    Question,
    QuestionFields,
    read_ids,
    read_questions,
    sample_questions,
    select_questions,
    write_ids,
)

RECIPES = Path(__file__).parents[3] / "recipes"
SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def make_questions(sizes):
    return [
        Question(f"{group}-{i}", "what?", ("this",), group=str(group))
        for group, size in enumerate(sizes)
        for i in range(size)
    ]


def written(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_a_row_of_squad_has_all_its_answers_and_its_passage(tmp_path):
    row = {
        "id": "5727",
        "question": "who?",
        "answers": ["her"],
        "all_answers": ["her", "she", "her", " "],
        "passage_id": "Law#3",
        "title": "Law",
    }

    [question] = read_questions(written(tmp_path, row))

    assert question == Question("5727", "who?", ("her", "she"), ("Law#3",), "Law")


def test_a_row_of_fairytales_has_several_passages(tmp_path):
    row = {"id": "q", "question": "who?", "answers": ["x"], "passage_ids": ["S#1", "S#2"]}

    [question] = read_questions(written(tmp_path, row))

    assert question.passage_ids == ("S#1", "S#2")


def test_a_row_without_an_id_is_called_by_its_line(tmp_path):
    rows = [{"question": "who?", "answer": answer} for answer in (["a", "b"], "c")]

    questions = read_questions(written(tmp_path, *rows))

    assert [(each.id, each.answers) for each in questions] == [("1", ("a", "b")), ("2", ("c",))]


def test_other_keys_can_be_named(tmp_path):
    fields = QuestionFields(text=("query",), answers=("gold",), group=("topic",))
    row = {"query": "who?", "gold": "me", "topic": "us", "answers": ["other"]}

    [question] = read_questions(written(tmp_path, row), fields=fields)

    assert (question.text, question.answers, question.group) == ("who?", ("me",), "us")


def test_a_limit_reads_the_first(tmp_path):
    rows = [{"question": "who?", "answers": [str(i)]} for i in range(5)]

    questions = read_questions(written(tmp_path, *rows), limit=2)

    assert [each.answers for each in questions] == [("0",), ("1",)]


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ({"question": "who?", "answers": []}, "labels of a hidden test set"),
        ({"question": "who?", "answers": [" "]}, "no gold answer"),
        ({"question": " ", "answers": ["x"]}, "name the key in the fields"),
        ({"query": "who?", "answers": ["x"]}, "among the keys query, answers"),
        ({"question": "who?", "answer": 2, "choices": []}, "choice_items"),
        ({"question": "who?", "answer": False}, "a text or a list of texts, found False"),
        (["who?"], "expected a JSON object"),
    ],
)
def test_a_row_that_cannot_be_scored_is_refused_with_its_line(tmp_path, row, hint):
    path = written(tmp_path, {"question": "who?", "answers": ["x"]}, row)

    with pytest.raises(DataError, match=hint) as refused:
        read_questions(path)

    assert f"{path}:2: " in str(refused.value)


def test_a_repeated_id_is_refused(tmp_path):
    row = {"id": "q", "question": "who?", "answers": ["x"]}

    with pytest.raises(DataError, match="make ids unique"):
        read_questions(written(tmp_path, row, row))


def test_a_line_that_is_no_json_is_refused_with_its_number(tmp_path):
    (tmp_path / "rows.jsonl").write_text('\n{"question": ')

    with pytest.raises(DataError, match="jsonl:2: not JSON"):
        read_questions(tmp_path / "rows.jsonl")


def test_a_file_without_questions_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no question"):
        read_questions(written(tmp_path))


def test_a_limit_below_one_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="leave it out to read all"):
        read_questions(written(tmp_path, {}), limit=0)


@given(sizes=SIZES, seed=st.integers(0, 9), data=st.data())
def test_a_sample_is_even_over_the_groups(sizes, seed, data):
    questions = make_questions(sizes)
    size = data.draw(st.integers(1, len(questions)))

    sample = sample_questions(questions, size, seed=seed)

    shares = Counter(each.group for each in sample)
    most = max(shares.values())
    assert len(sample) == size
    for group, available in enumerate(sizes):
        assert shares[str(group)] >= min(available, most - 1)


@given(sizes=SIZES, data=st.data())
def test_a_sample_keeps_the_order_and_does_not_depend_on_it(sizes, data):
    questions = make_questions(sizes)
    size = data.draw(st.integers(1, len(questions)))
    shuffled = data.draw(st.permutations(questions))

    sample = sample_questions(questions, size, seed=3)

    assert sample == [each for each in questions if each in sample]
    assert {*sample} == {*sample_questions(shuffled, size, seed=3)}


def test_another_seed_gives_another_sample():
    questions = make_questions([40, 50])

    assert sample_questions(questions, 20, seed=0) != sample_questions(questions, 20, seed=1)


@pytest.mark.parametrize("size", [0, 8])
def test_a_sample_of_more_than_there_are_is_refused(size):
    with pytest.raises(ConfigError, match="size must be 1 to 7"):
        sample_questions(make_questions([3, 4]), size, seed=0)


def test_ids_read_back_as_written_and_choose_in_their_order(tmp_path):
    questions = make_questions([2, 3])
    write_ids(tmp_path / "ids.txt", ["1-2", "0-0"], comment="two of five")

    chosen = select_questions(questions, read_ids(tmp_path / "ids.txt"))

    assert [each.id for each in chosen] == ["1-2", "0-0"]
    assert (tmp_path / "ids.txt").read_text().startswith("# two of five\n")


def test_an_unknown_id_is_named():
    with pytest.raises(DataError, match="the first is 'x': give the ids and the questions"):
        select_questions(make_questions([2]), ["0-1", "x"])


def test_a_file_without_ids_is_refused(tmp_path):
    (tmp_path / "ids.txt").write_text("# none\n\n")

    with pytest.raises(DataError, match="expected one a line"):
        read_ids(tmp_path / "ids.txt")


def test_the_committed_sample_of_squad_is_what_its_comment_says(data_dir):
    path = RECIPES / "radit" / "squad11-dev-500.txt"
    questions = read_questions(data_dir / "qa" / "squad11" / "dev.jsonl")

    sample = sample_questions(questions, 500, seed=0)

    assert read_ids(path) == [each.id for each in sample]
    assert {*Counter(each.group for each in sample).values()} == {83, 84}
    assert all(len(each.passage_ids) == 1 for each in sample)


@pytest.mark.parametrize(
    ("name", "count"),
    [("fairytaleqa/val", 1025), ("nq_open/efficientqa_dev", 1800), ("webquestions/val", 755)],
)
def test_real_sets_are_read_as_they_are(data_dir, name, count):
    questions = read_questions(data_dir / "qa" / f"{name}.jsonl")

    assert len(questions) == count
    assert all(each.answers for each in questions)
