"""Where a text ends, whatever pieces it comes in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import GenerationConfig

from ragkit.decoding import GenerationOptions, generate, generate_tokens
from ragkit.decoding.stopping import Continuation, StopStrings, stop_tokens
from ragkit.errors import ConfigError
from tests.decoding.tiny import EOS, TURN_END, tiny_llama, tiny_tokenizer

STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)


def before_first_stop(text, stops):
    """Letter by letter: the text before the stop string that is complete first."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))]
    return text


@given(pieces=st.lists(st.text("abc\n", max_size=5)), stops=STOPS)
def test_text_ends_before_the_stop_string_that_is_complete_first(pieces, stops):
    strings = StopStrings(stops)

    shown = [strings.push(piece) for piece in pieces]
    shown.append(strings.flush())

    text = "".join(pieces)
    assert "".join(shown) == before_first_stop(text, stops)
    assert strings.found == any(stop in text for stop in stops)


@given(pieces=st.lists(st.text("abc", max_size=5)), stop=st.text("abc", min_size=1, max_size=4))
def test_no_more_is_held_back_than_may_begin_the_stop_string(pieces, stop):
    strings = StopStrings([stop])
    shown = ""

    for piece in pieces:
        shown += strings.push(piece)

    held = "".join(pieces)[len(shown) :]
    assert strings.found or stop.startswith(held)


@given(text=st.text("the wing \u00e9\u6c34", min_size=1), data=st.data())
def test_a_stop_string_across_tokens_is_not_shown(text, data):
    tokenizer = tiny_tokenizer()
    start = data.draw(st.integers(0, len(text) - 1))
    stop = text[start : start + data.draw(st.integers(1, 6))]
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    row = Continuation(
        max_new_tokens=999, stop_tokens=frozenset(), tokenizer=tokenizer, stop=[stop]
    )

    for token in tokens:
        if row.finish_reason is None:
            row.put(token, -0.5)

    assert row.text == before_first_stop(text, [stop])
    assert row.finish_reason == "stop"
    assert tokens[: len(row.tokens)] == row.tokens


def test_text_held_back_is_let_go_at_the_limit_and_at_an_end_token():
    tokenizer = tiny_tokenizer()
    first, second = tokenizer("ab", add_special_tokens=False)["input_ids"]
    cut = Continuation(max_new_tokens=2, stop_tokens=frozenset(), tokenizer=tokenizer, stop=["abc"])
    ended = Continuation(
        max_new_tokens=9, stop_tokens=frozenset([1]), tokenizer=tokenizer, stop=["abc"]
    )

    for row, last in ((cut, second), (ended, 1)):
        row.put(first, -0.5)
        held = row.text
        row.put(last, -0.5)
        assert held == ""

    assert (cut.text, cut.finish_reason) == ("ab", "length")
    assert (ended.text, ended.finish_reason) == ("a", "stop")


def test_an_unfinished_character_is_let_go_at_the_limit():
    tokenizer = tiny_tokenizer()
    first, *_ = tokenizer("\U0001f923", add_special_tokens=False)["input_ids"]
    row = Continuation(max_new_tokens=1, stop_tokens=frozenset(), tokenizer=tokenizer)

    row.put(first, -0.5)

    assert (row.text, row.finish_reason) == ("\N{REPLACEMENT CHARACTER}", "length")


@pytest.mark.parametrize(
    ("ends", "expected"),
    [(7, {7}), ([128_001, 128_008, 128_009], {128_001, 128_008, 128_009}), (None, {1})],
)
def test_end_tokens_are_those_of_the_generation_config_else_the_tokenizers(ends, expected):
    model = tiny_llama()
    model.generation_config = GenerationConfig(eos_token_id=ends)

    assert stop_tokens(model, tiny_tokenizer()) == expected


def test_a_special_token_as_stop_string_ends_the_text():
    model, tokenizer = tiny_llama(eos_token_id=1), tiny_tokenizer()

    ends = stop_tokens(model, tokenizer, stop=[TURN_END, "wing", EOS])

    assert ends == {1, tokenizer.convert_tokens_to_ids(TURN_END)}


def test_stop_strings_end_a_generation():
    model, tokenizer = tiny_llama(eos_token_id=1), tiny_tokenizer()
    [whole] = generate(model, tokenizer, ["the wing"], options=GenerationOptions(max_new_tokens=40))
    stop = whole.text[9:12]

    [found] = generate(
        model,
        tokenizer,
        ["the wing"],
        options=GenerationOptions(max_new_tokens=40, stop=(stop,)),
    )

    assert found.text == before_first_stop(whole.text, [stop])
    assert found.finish_reason == "stop"
    assert found.num_tokens < whole.num_tokens


def test_stop_strings_without_a_tokenizer_are_refused():
    with pytest.raises(ConfigError, match="stop strings need a tokenizer"):
        generate_tokens(tiny_llama(), [[7]], options=GenerationOptions(stop=("a",)))
