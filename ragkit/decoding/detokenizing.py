"""Text from tokens as they come."""

from typing import cast

from transformers import PreTrainedTokenizerBase

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def decode_tokens(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    """The text of `tokens` without special ones, as it is: spaces before commas stay."""
    text = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return cast(str, text)  # a list of strings for a list of lists only


class PieceDecoder:
    """Gives the text of tokens piece by piece: joined, the pieces are the text of all tokens.

    A token may hold part of a character. What it adds is held back until the character is
    complete, so that a piece never has a broken one where the whole text has none.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._before: list[int] = []  # decoded again only for what it does to the next token
        self._recent: list[int] = []
        self._num_shown = 0  # characters of both that have been given out

    def push(self, token: int) -> str:
        """The text that `token` completes, which may be none."""
        self._recent.append(token)
        text = decode_tokens(self._tokenizer, self._before + self._recent)
        # Of the bytes of an unfinished character, a decoder makes these.
        settled = text.rstrip(REPLACEMENT)
        piece = settled[self._num_shown :]
        self._num_shown += len(piece)
        if piece and settled == text:
            self._before, self._recent = self._recent, []
            self._num_shown = len(decode_tokens(self._tokenizer, self._before))
        return piece

    def flush(self) -> str:
        """What is held back: no token follows."""
        text = decode_tokens(self._tokenizer, self._before + self._recent)
        piece = text[self._num_shown :]
        self._num_shown += len(piece)
        return piece
