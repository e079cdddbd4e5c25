from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.evaluation.qa.rouge import lcs_length, rouge_l, rouge_l_of_sentences

WORDS = st.lists(st.sampled_from(["a", "b", "B", "c,", "d"]), max_size=12)


def textbook_length(left, right):
    @cache
    def length(i, j):
        if not i or not j:
            return 0
        if left[i - 1] == right[j - 1]:
            return length(i - 1, j - 1) + 1
        return max(length(i - 1, j), length(i, j - 1))

    return length(len(left), len(right))


@given(left=WORDS, right=WORDS)
def test_the_length_is_that_of_the_textbook(left, right):
    assert lcs_length(left, right) == textbook_length(left, right)


class WhiteSpace:
    """Words as they stand, for the package that would change them."""

    def tokenize(self, text):
        return text.split()


@given(answer=WORDS.map(" ".join), golds=st.lists(WORDS.map(" ".join), min_size=1, max_size=3))
def test_rouge_l_is_the_f_measure_of_the_package(answer, golds):
    package = pytest.importorskip("rouge_score.rouge_scorer")
    scorer = package.RougeScorer(["rougeL"], tokenizer=WhiteSpace())

    expected = max(scorer.score(gold, answer)["rougeL"].fmeasure for gold in golds)

    assert rouge_l(answer, golds) == pytest.approx(expected, rel=1e-12)  # other order of divisions


def test_words_count_as_they_stand():
    assert rouge_l("The cat", ["the cat"]) == 0.5
    assert rouge_l("cat.", ["cat"]) == 0


@given(
    answer=st.permutations("abcdef").map(lambda letters: letters[:4]),
    gold=st.permutations("abcdef").map(lambda letters: letters[:5]),
)
def test_both_forms_agree_on_one_sentence_without_a_repeated_word(answer, gold):
    answer, gold = " ".join(answer), " ".join(gold)

    assert rouge_l_of_sentences(answer, [gold]) == rouge_l(answer, [gold])


def test_subsequences_of_all_sentences_are_united():
    # Lin's example: w1 w2 of the first sentence, w1 w3 w5 of the second; 4 of 5 and of 9 words.
    gold, answer = "w1 w2 w3 w4 w5", "w1 w2 w6 w7 w8. w1 w3 w8 w9 w5"

    assert rouge_l_of_sentences(answer, [gold]) == pytest.approx(2 * 4 / (5 + 8))


def test_repeated_words_count_once_in_sentences():
    assert rouge_l_of_sentences("a a b", ["a b b b"]) == 1
    assert rouge_l("a a b", ["a b b b"]) == pytest.approx(4 / 7)


def test_of_equally_long_subsequences_the_one_that_ends_last_counts():
    # `b a` shares `a` or `b` with the gold answer: it is `b` that joins the union.
    assert rouge_l_of_sentences("b. b a", ["a b"]) == 0.5
    assert rouge_l_of_sentences("a. b a", ["a b"]) == 1


@pytest.mark.parametrize("answer", ["", " ", "..."])
def test_an_answer_without_words_scores_zero(answer):
    assert rouge_l(answer, ["gold"]) == 0
    assert rouge_l_of_sentences(answer, ["gold"]) == 0
