import gzip
import json

import pytest

from ragkit.data.rejects import Rejects
from ragkit.errors import DataError
from ragkit.finetune.radit.records import SUMMARIZE, RecordFields, read_records
from tests.finetune.radit.corpora import write_jsonl


def read_one(tmp_path, row, **arguments):
    [record] = read_records(write_jsonl(tmp_path / "set.jsonl", [row]), **arguments)
    return record


@pytest.mark.parametrize(
    ("row", "answers"),
    [
        ({"question": "why?", "answers": ["so", "thus", "so"]}, ("so", "thus")),
        ({"question": "why?", "golden_answers": ["so"]}, ("so",)),
        ({"query": "why?", "target": " so \n"}, ("so",)),
        ({"question": "why?", "answer": True}, ("yes",)),
        ({"question": "why?", "answer": 72}, ("72",)),
    ],
)
def test_well_known_fields_are_found(tmp_path, row, answers):
    record = read_one(tmp_path, {"id": "a", **row}, task="open_qa")

    assert (record.id, record.query, record.answers) == ("a", "why?", answers)


def test_named_fields_win(tmp_path):
    row = {"id": "a", "key": 7, "question": "no", "ask": "yes?", "answer": "no", "say": "yes"}
    fields = RecordFields(id="key", query="ask", answers="say")

    record = read_one(tmp_path, row, task="open_qa", fields=fields)

    assert (record.id, record.query, record.answers) == ("7", "yes?", ("yes",))


def test_a_row_without_id_is_named_by_its_line_also_in_a_compressed_file(tmp_path):
    rows = [{"question": f"q{i}", "answer": "a"} for i in range(3)]
    path = tmp_path / "sums.jsonl.gz"
    path.write_bytes(gzip.compress("\n\n".join(map(json.dumps, rows)).encode()))

    records = read_records(path, task="open_qa")

    assert [record.id for record in records] == [f"{tmp_path.name}/sums:{n}" for n in (1, 3, 5)]


def test_contexts_are_looked_up_by_id_and_joined_without_a_blank_line(tmp_path):
    passages = [{"id": "a#1", "title": "T", "text": "one"}, {"id": "a#2", "text": "two"}]
    write_jsonl(tmp_path / "passages.jsonl", passages)
    row = {"id": "a", "question": "which?", "answers": ["x"], "passage_ids": ["a#1", "a#2"]}

    record = read_one(
        tmp_path, row, task="reading_comprehension", passages=tmp_path / "passages.jsonl"
    )

    assert (record.title, record.context) == ("T", "one\ntwo")


def test_all_passages_of_one_id_are_context(tmp_path):
    passages = [{"id": "a", "title": "T", "text": "one"}, {"id": "a", "title": "T", "text": "two"}]
    write_jsonl(tmp_path / "passages.jsonl", passages)
    row = {"question": "which?", "answer": "x", "passage_id": "a"}

    record = read_one(
        tmp_path, row, task="reading_comprehension", passages=tmp_path / "passages.jsonl"
    )

    assert record.context == "one\ntwo"


def test_an_article_without_instruction_is_to_be_summarized(tmp_path):
    row = {"article": "A long story.", "summary": "Short."}

    record = read_one(tmp_path, row, task="summarization")

    assert (record.query, record.context, record.answers) == (
        SUMMARIZE,
        "A long story.",
        ("Short.",),
    )


def test_reasoning_is_split_from_the_answer_without_calculator_marks(tmp_path):
    row = {"question": "how many?", "answer": "48/2 = <<48/2=24>>24 in May.\nSo 72.\n#### 72"}

    record = read_one(tmp_path, row, task="chain_of_thought")

    assert (record.rationale, record.answers) == ("48/2 = 24 in May.\nSo 72.", ("72",))


def test_facts_are_the_reasoning_where_there_are_some(tmp_path):
    row = {"question": "can it?", "answer": False, "facts": ["It is small.", "They are not."]}

    record = read_one(tmp_path, row, task="chain_of_thought")

    assert (record.rationale, record.answers) == ("It is small. They are not.", ("no",))


@pytest.mark.parametrize("answer", [1, "B", "deep"])
def test_a_choice_is_named_by_position_letter_or_text(tmp_path, answer):
    row = {"question": "it is", "choices": ["wide", "deep", "A"], "answer": answer}

    record = read_one(tmp_path, row, task="multiple_choice")

    assert record.answers == ("B", "deep")


def test_the_text_of_a_choice_counts_before_its_letter(tmp_path):
    row = {"question": "which grade?", "choices": ["F", "A"], "answer": "A"}

    assert read_one(tmp_path, row, task="multiple_choice").answers == ("B", "A")


@pytest.mark.parametrize(
    ("turns", "history", "query"),
    [
        (["hi", "hello", "who?", "me"], ("hi", "hello"), "who?"),
        (["welcome", "who?", "me"], (), "who?"),
        (
            [
                {"role": "user", "content": "who?"},
                {"role": "assistant", "content": "me"},
            ],
            (),
            "who?",
        ),
    ],
)
def test_the_last_turn_of_a_dialogue_is_the_target(tmp_path, turns, history, query):
    record = read_one(tmp_path, {"messages": turns}, task="dialogue")

    assert (record.history, record.query, record.answers) == (history, query, ("me",))


def test_plain_text_has_no_query(tmp_path):
    record = read_one(tmp_path, {"id": "a", "text": "Some words."}, task="text")

    assert (record.query, record.answers) == ("", ("Some words.",))


@pytest.mark.parametrize(
    ("task", "row", "hint"),
    [
        ("open_qa", {"answer": "x"}, "expected a field question or query"),
        ("open_qa", {"question": " ", "answer": "x"}, "query is empty"),
        ("open_qa", {"question": "q"}, "expected answers"),
        ("open_qa", {"question": "q", "answers": []}, "give no_answer"),
        ("open_qa", {"question": "q", "answer": {}}, "must be a text"),
        ("reading_comprehension", {"question": "q", "answer": "x"}, "expected a field context"),
        ("chain_of_thought", {"question": "q", "answer": "x"}, "no rationale"),
        ("chain_of_thought", {"question": "q", "answer": "#### x"}, "rationale is empty"),
        ("multiple_choice", {"question": "q", "choices": ["a"], "answer": 1}, "position below 1"),
        ("multiple_choice", {"question": "q", "choices": ["a"] * 27, "answer": 1}, "at most 26"),
        ("multiple_choice", {"question": "q", "answer": 1}, "expected choices"),
        ("dialogue", {"messages": ["one"]}, "found one turn"),
        ("dialogue", {"messages": [{"role": "user", "content": "x"}]}, "assistant last"),
        ("dialogue", {"messages": []}, "expected a list of turns"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, task, row, hint):
    path = write_jsonl(tmp_path / "set.jsonl", [row])

    with pytest.raises(DataError, match=rf"set\.jsonl:1: .*{hint}"):
        read_records(path, task=task)


@pytest.mark.parametrize("line", [b"{", b"[1]", b'"text"', b'{"question": "\xff"}'])
def test_a_line_that_is_no_object_is_named(tmp_path, line):
    path = tmp_path / "set.jsonl"
    path.write_bytes(b'{"question": "q", "answer": "a"}\n' + line)

    with pytest.raises(DataError, match=r"1 of 2 rows were refused.*\n.*set\.jsonl:2"):
        read_records(path, task="open_qa")


def test_few_bad_rows_may_be_let_pass_and_are_counted(tmp_path):
    rows = [{"question": f"q{i}", "answer": "a"} for i in range(4)]
    path = write_jsonl(tmp_path / "set.jsonl", [*rows, {"question": "q"}])
    rejects = Rejects()

    records = read_records(path, task="open_qa", rejects=rejects, max_rejects="20%")

    assert (len(records), dict(rejects.counts)) == (4, {"missing_answers": 1})


def test_an_unknown_passage_is_refused(tmp_path):
    write_jsonl(tmp_path / "passages.jsonl", [{"id": "a", "text": "one"}])
    row = {"question": "q", "answer": "x", "passage_id": "b"}

    with pytest.raises(DataError, match="no passage has the id 'b'"):
        read_one(tmp_path, row, task="reading_comprehension", passages=tmp_path / "passages.jsonl")


def test_unanswerable_questions_get_the_answer_asked_for(tmp_path):
    row = {"question": "q", "answers": []}

    record = read_one(tmp_path, row, task="open_qa", no_answer="I don't know")

    assert record.answers == ("I don't know",)


def test_equal_rows_count_once_and_other_rows_of_one_id_are_renamed(tmp_path):
    rows = [{"id": "a", "question": q, "answer": "x"} for q in ("one", "one", "two")]
    rejects = Rejects()

    records = read_records(
        write_jsonl(tmp_path / "set.jsonl", rows), task="open_qa", rejects=rejects
    )

    assert [(record.id, record.query) for record in records] == [("a", "one"), ("a:3", "two")]
    assert dict(rejects.counts) == {"duplicate": 1, "duplicate_id": 1}


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "set.jsonl").write_text("\n")

    with pytest.raises(DataError, match="no record for the task 'text'"):
        read_records(tmp_path / "set.jsonl", task="text")


@pytest.mark.parametrize(
    ("name", "task", "count"),
    [
        ("squad11/dev.jsonl", "open_qa", 2050),
        ("fairytaleqa/val.jsonl", "open_qa", 1025),
        ("nq_open/efficientqa_dev.jsonl", "open_qa", 1800),
        ("webquestions/val.jsonl", "open_qa", 755),
        ("strategyqa/dev.jsonl", "chain_of_thought", 229),
        ("arc_easy/train.jsonl", "multiple_choice", 2251),
        ("openbookqa/train.jsonl", "multiple_choice", 4957),
    ],
)
def test_real_sets_are_read_whole(data_dir, name, task, count):
    records = read_records(data_dir / "qa" / name, task=task)

    assert len({record.id for record in records}) == count


@pytest.mark.parametrize("name", ["squad11/dev.jsonl", "fairytaleqa/val.jsonl"])
def test_real_questions_have_their_answers_in_the_gold_context(data_dir, name):
    path = data_dir / "qa" / name

    records = read_records(
        path, task="reading_comprehension", passages=path.with_name("passages.jsonl")
    )

    # FairytaleQA's answers are free text: about half of them are words of the story.
    found = [record.answers[0].lower() in record.context.lower() for record in records]
    assert sum(found) / len(found) > (0.99 if "squad" in name else 0.4)
