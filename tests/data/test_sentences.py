import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.data import split_sentences
from ragkit.data.sentences import SentenceChunker, count_units


def cut(text, size):
    return [text[start:end] for start, end in SentenceChunker(size).cut(text)]


@pytest.mark.parametrize(
    "sentences",
    [
        ["One is here.", "Two is there!", "Is three?", "Yes."],
        ["Dr. Smith met Mr. J. R. R. Tolkien at 5 p.m. on Jan. 3.", "They talked."],
        ["It costs 3.50 dollars, e.g. in the U.S. market.", "See Fig. 3 and No. 7."],
        ["He said no.", "Then he left."],
        ["It was I.", "Nobody else came."],
        ['"Stop!" she said (twice).', "He did."],
        ["Wait... what is it?", "Nothing."],
        ["He paused...", "Then he spoke."],
        ["\u4eca\u65e5\u306f\u3002", "\u660e\u65e5\uff01", "\u6f22\u5b57"],
        ["no full stop", "a paragraph later"],
        ["Read ragkit.data.words first.", "2 files follow."],
        ["\u041f\u0440\u0438\u0432\u0435\u0442.", "\u041a\u0430\u043a \u0434\u0435\u043b\u0430?"],
    ],
)
@pytest.mark.parametrize("between", [" ", "\n\n", "\r\n"])
def test_sentences_end_where_readers_end_them(sentences, between):
    if sentences[0] == "no full stop":
        between = " \n\t\n"

    assert split_sentences(between.join(sentences)) == sentences


@given(text=st.text(), size=st.integers(1, 12))
def test_passages_hold_at_most_the_words_asked_for(text, size):
    for passage in cut(text, size):
        assert 1 <= count_units(passage, 0, len(passage)) <= size


def test_sentences_fill_a_passage_and_are_not_broken():
    text = "One two three. Four five. Six seven eight nine. Ten."

    assert cut(text, 6) == ["One two three. Four five.", "Six seven eight nine. Ten."]


def test_a_sentence_longer_than_a_passage_is_cut_between_words():
    assert cut("Short one. A b c d e f g. End.", 4) == ["Short one.", "A b c d", "e f g.", "End."]


def test_a_script_without_spaces_counts_its_characters():
    assert [len(passage) for passage in cut("\u6f22" * 25, 10)] == [10, 10, 5]


def test_a_run_of_letters_without_a_space_is_cut_hard():
    assert [len(passage) for passage in cut("a" * 2_300, 50)] == [1_000, 1_000, 300]
