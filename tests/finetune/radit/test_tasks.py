from ragkit.finetune.radit.records import InstructionRecord
from ragkit.finetune.radit.tasks import prompt_query, retrieval_query, target_text

MARKERS = {"question_marker": "Q: ", "question_end": "\n", "answer_marker": "A:"}


def test_a_question_is_asked_and_searched_as_it_stands():
    record = InstructionRecord("a", "open_qa", "who?", ("me",))

    assert (prompt_query(record, **MARKERS), retrieval_query(record)) == ("who?", "who?")


def test_a_record_may_search_with_other_words():
    record = InstructionRecord("a", "open_qa", "who?", ("me",), retrieval_query="names")

    assert retrieval_query(record) == "names"


def test_a_dialogue_shows_its_turns_with_markers_and_searches_with_all_of_them():
    record = InstructionRecord("a", "dialogue", "and where?", ("there",), history=("who?", "me"))

    assert prompt_query(record, **MARKERS) == "who?\nA: me\nQ: and where?"
    assert retrieval_query(record) == "who?\nme\nand where?"


def test_choices_have_letters_in_the_prompt_and_none_in_the_search():
    record = InstructionRecord(
        "a", "multiple_choice", "it is", ("B", "two"), choices=("one", "two")
    )

    assert prompt_query(record, **MARKERS) == "it is\nA. one\nB. two"
    assert retrieval_query(record) == "it is\none\ntwo"
    assert target_text(record) == "B"


def test_tasks_with_a_context_of_their_own_search_for_nothing():
    records = [
        InstructionRecord("a", task, "who?", ("me",), context="I am.", retrieval_query="names")
        for task in ("reading_comprehension", "summarization")
    ]

    assert [retrieval_query(record) for record in records] == [None, None]


def test_plain_text_searches_for_nothing():
    assert retrieval_query(InstructionRecord("a", "text", "", ("words",))) is None


def test_reasoning_stands_on_one_line_before_the_answer():
    record = InstructionRecord("a", "chain_of_thought", "?", ("72",), rationale="one.\n two.")

    assert target_text(record) == "one. two. The answer is 72."


def test_the_first_answer_is_the_target():
    assert target_text(InstructionRecord("a", "open_qa", "who?", ("me", "I"))) == "me"
