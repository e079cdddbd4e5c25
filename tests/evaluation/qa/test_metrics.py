import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import DataError
from ragkit.evaluation.qa.metrics import (
    answer_recall_at,
    contains_answer,
    contains_pattern,
    exact_match,
    matches_pattern,
    passage_recall_at,
    token_f1,
)
from ragkit.evaluation.qa.normalize import normalize_answer

WORDS = st.sampled_from(["the", "The", "cat", "Cat", "cat.", "sat", "mat!", "a", "on"])
ANSWERS = st.lists(WORDS, max_size=7).map(" ".join)
GOLDS = st.lists(ANSWERS, min_size=1, max_size=4)


@given(answer=ANSWERS, golds=GOLDS)
def test_f1_is_the_best_of_the_published_program(answer, golds):
    published = pytest.importorskip("lm_eval.tasks.qasper.metrics")

    expected = max(published.f1_abstractive([answer], [gold]) for gold in golds)

    # Both divide and multiply the same counts, in the same order.
    assert token_f1(answer, golds) == expected


@given(answer=ANSWERS, golds=GOLDS)
def test_f1_is_one_exactly_where_all_words_are_shared(answer, golds):
    words = sorted(normalize_answer(answer).split())

    shared = any(words == sorted(normalize_answer(gold).split()) for gold in golds)

    assert (token_f1(answer, golds) == 1) == (shared and words != [])
    assert exact_match(answer, golds) <= shared


@pytest.mark.parametrize(
    ("answer", "gold"),
    [("beatles", "The Beatles!"), ("The Beatles!", "beatles"), ("the  U.S. army", "US Army")],
)
def test_answer_and_gold_are_both_normalised(answer, gold):
    assert exact_match(answer, ["nothing", gold]) == 1


def test_words_count_as_often_as_both_have_them():
    # 2 of 3 and 2 of 4 words are shared.
    assert token_f1("cat cat sat", ["cat cat on mat"]) == pytest.approx(4 / 7)


@pytest.mark.parametrize(
    ("text", "gold", "found"),
    [
        ("a large party", "art", 0),
        ("modern art, of course", "Art", 1),
        ("New York City", "york city", 1),
        ("York, New City", "new york", 0),
        ("Beyonc\u00e9 sang", "beyonce\u0301", 1),
        ("anything", "", 0),
    ],
)
def test_an_answer_is_found_as_tokens_in_a_row(text, gold, found):
    assert contains_answer(text, [gold]) == found


@given(words=st.lists(WORDS, min_size=1, max_size=9), data=st.data())
def test_every_stretch_of_a_text_is_found_in_it(words, data):
    start = data.draw(st.integers(0, len(words) - 1))
    end = data.draw(st.integers(start + 1, len(words)))

    assert contains_answer(" ".join(words), ["elsewhere", " ".join(words[start:end])]) == 1


@pytest.mark.parametrize(
    ("answer", "pattern", "matched"),
    [
        ("January 7, 1955", r"Jan(uary)? 7,? 1955", 1),
        ("jan 7 1955", r"Jan(uary)? 7,? 1955", 1),
        ("the Nile.", r"nile", 1),  # in the normal form
        ("the river Nile", r"nile", 0),
        ("$20 million", r"\$ ?20 million", 1),
    ],
)
def test_a_pattern_matches_all_of_the_answer(answer, pattern, matched):
    assert matches_pattern(answer, ["never", pattern]) == matched


def test_a_pattern_is_found_within_a_text():
    assert contains_pattern("It was in Jan 1955, they say", [r"jan(uary)? 19\d\d"]) == 1
    assert contains_pattern("It was then", [r"jan(uary)? 19\d\d"]) == 0


def test_a_broken_pattern_is_named():
    with pytest.raises(DataError, match="is no regular expression"):
        matches_pattern("1955", ["(19"])


@given(found=st.lists(st.sampled_from("abcdefg"), max_size=9), k=st.integers(1, 11))
def test_recall_of_one_passage_says_whether_it_is_among_the_first(found, k):
    assert passage_recall_at(k, found, ["c"]) == ("c" in found[:k])


def test_recall_of_several_passages_is_the_share_that_was_found():
    assert passage_recall_at(3, ["a", "x", "b", "c"], ["a", "b", "c"]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(("k", "found"), [(1, 0), (2, 1), (7, 1)])
def test_answer_recall_reads_the_first_passages(k, found):
    assert answer_recall_at(k, ["no", "the mat", "cat"], ["mat"]) == found


def test_answer_recall_of_no_passage_is_zero():
    assert answer_recall_at(3, [], ["mat"]) == 0
