import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.evaluation.qa.normalize import normalize_answer, span_tokens

TEXTS = st.lists(
    st.sampled_from(["the", "The", "A", "an", "theme", "U.S.", "a-b", "\t", "\u00c9t\u00e9", "!"])
    | st.text(max_size=5),
    max_size=9,
).map(" ".join)


@given(text=TEXTS)
def test_the_normal_form_is_that_of_the_published_program(text):
    # The harness carries SQuAD's own program.
    published = pytest.importorskip("lm_eval.tasks.qasper.metrics")

    assert normalize_answer(text) == published.normalize_answer(text)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Beatles!", "beatles"),
        ("a theme, an Andean", "theme andean"),
        ("U.S.", "us"),
        ("\u201cquoted\u201d", "\u201cquoted\u201d"),  # not ASCII: SQuAD leaves it
        ("the", ""),
    ],
)
def test_case_punctuation_articles_and_spaces_do_not_count(text, normal):
    assert normalize_answer(text) == normal


@given(text=TEXTS)
def test_spans_do_not_depend_on_how_accents_are_encoded(text):
    from unicodedata import normalize

    composed = [normalize("NFC", token) for token in span_tokens(normalize("NFC", text))]

    assert composed == [normalize("NFC", token) for token in span_tokens(normalize("NFD", text))]


def test_a_span_has_words_and_single_signs():
    assert span_tokens("J.K. Rowling's $3.5") == [*"j.k.", "rowling", *"'s$3.5"]


def test_a_vowel_sign_stays_in_its_word():
    assert len(span_tokens("\u0939\u093f\u0928\u094d\u0926\u0940")) == 1
