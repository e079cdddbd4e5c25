import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.data.text import clean, decode, is_blank, size_bytes

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # surrogates and NUL included


@given(text=ANY_TEXT)
def test_clean_text_can_be_stored_and_is_left_alone_the_second_time(text):
    cleaned, codes = clean(text)

    assert cleaned.encode("utf-8").decode("utf-8") == cleaned
    assert "\x00" not in cleaned
    assert clean(cleaned) == (cleaned, [])
    assert bool(codes) == (cleaned != text)


@pytest.mark.parametrize(
    "text", ["", " \n\t", "\x00\x00", "\ufeff\u200b", "\ufffd \ufffd", "\u3000"]
)
def test_text_that_shows_nothing_is_blank(text):
    assert is_blank(text)


@pytest.mark.parametrize("text", ["a", "\x00.", "\u0301", "\u4e2d", "\U0001f600", "\u0627"])
def test_text_that_shows_something_is_not_blank(text):
    assert not is_blank(text)


@given(text=st.text())
def test_size_is_that_of_utf8(text):
    assert size_bytes(text) == len(text.encode("utf-8"))


@given(data=st.binary())
def test_bytes_decode_and_say_whether_they_were_utf8(data):
    text, valid = decode(data)

    assert valid == (text.encode("utf-8") == data)
