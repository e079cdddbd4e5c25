"""From the values of a JSON row to the texts of a record."""

import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from ragkit.data.text import clean, is_blank
from ragkit.errors import DataError

Values = Mapping[str, Any]
"""One row."""

ASSISTANT = "assistant"
ANSWER_MARK = "####"
"""Stands between reasoning and answer in GSM8K (Cobbe et al. 2021, arXiv:2110.14168)."""

_CALCULATION = re.compile(r"<<[^<>]*>>")


class RowError(DataError):
    """A row that is no record; `code` counts it."""

    def __init__(self, reason: str, code: str = "malformed") -> None:
        super().__init__(reason)
        self.code = code


def first_field(values: Values, names: Sequence[str]) -> object:
    """The value of the first name that the row has; `None` if it has none of them."""
    return next((values[name] for name in names if name in values), None)


def text_of(value: object, part: str) -> str:
    """`value` as a text without white space around it; a boolean is `yes` or `no`.

    Raises:
        RowError: It is no text, number or boolean, or nothing in it is visible.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, str | int | float):
        raise RowError(f"{part} must be a text, found {value!r:.60}")
    text, _ = clean(str(value))
    if is_blank(text):
        raise RowError(f"{part} is empty", f"empty_{part.replace(' ', '_')}")
    return text.strip()


def texts_of(value: object, part: str) -> tuple[str, ...]:
    """The texts of a list, or the one text that `value` is.

    Raises:
        RowError: There is none, or one of them is no text.
    """
    values = value if isinstance(value, list) else [value]
    if not values or value is None:
        raise RowError(f"expected {part}, found {value!r}", f"missing_{part.replace(' ', '_')}")
    return tuple(text_of(one, part) for one in values)


def answers_of(value: object) -> tuple[str, ...]:
    """Different answers in order; none for an empty list.

    Raises:
        RowError: The row has no such field, or an answer is no text.
    """
    if value == []:
        return ()
    return tuple(dict.fromkeys(texts_of(value, "answers")))


def choose(value: object, choices: Sequence[str]) -> tuple[str, str]:
    """Letter and text of the right choice.

    Args:
        value: Its position from 0, its letter, or its text.

    Raises:
        RowError: It names no choice, or there are more choices than letters.
    """
    letters = ascii_uppercase[: len(choices)]
    if len(letters) < len(choices):
        raise RowError(f"{len(choices)} choices, at most {len(letters)} have a letter")
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(choices):
        return letters[value], choices[value]
    # A text counts before a letter: "A" may be what one of the choices says.
    for names in (choices, letters):
        if isinstance(value, str) and value in names:
            return letters[list(names).index(value)], choices[list(names).index(value)]
    raise RowError(
        f"answer must be a position below {len(choices)}, a letter or a text of the choices, "
        f"found {value!r}"
    )


def split_rationale(answer: str) -> tuple[str, str]:
    """Reasoning and final answer of a text that holds both, without calculator marks.

    Raises:
        RowError: No mark stands between them, or one of them is empty.
    """
    reasoning, mark, final = answer.rpartition(ANSWER_MARK)
    if not mark:
        raise RowError(f"no rationale, and no {ANSWER_MARK} in the answer", "missing_rationale")
    return text_of(_CALCULATION.sub("", reasoning), "rationale"), text_of(final, "answer")


def turns_of(value: object) -> list[str]:
    """The turns of a dialogue, the first a question's and the last an answer's.

    A first turn of the answering side, to which nothing was asked, is left out.

    Raises:
        RowError: There are fewer than two, or two of one side follow each other.
    """
    if not isinstance(value, list) or not value:
        raise RowError("expected a list of turns", "missing_turns")
    if any(isinstance(turn, Mapping) for turn in value):
        value = _contents(value)
    turns = [text_of(turn, "turn") for turn in value[len(value) % 2 :]]
    if not turns:
        raise RowError("a dialogue needs a question and an answer, found one turn")
    return turns


def _contents(messages: Sequence[Any]) -> list[Any]:
    roles = [one.get("role") if isinstance(one, Mapping) else None for one in messages]
    expected = [(len(roles) - 1 - place) % 2 == 0 for place in range(len(roles))]
    if [role == ASSISTANT for role in roles] != expected:
        raise RowError(
            f"expected the roles user and {ASSISTANT} in turn and {ASSISTANT} last, found {roles}"
        )
    return [message.get("content") for message in messages]
