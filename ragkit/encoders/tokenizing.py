"""Token ids, lengths and offsets straight from a fast tokenizer, without Python work per token."""

import copy
import re
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding
from tokenizers import Tokenizer as Backend

from ragkit.encoders.base import Tokens
from ragkit.errors import ConfigError

WINDOW_CHARS = 65_536
# An encoding holds some 600 bytes a token until its ids are taken out.
TEXTS_AT_ONCE = 512
HEAD_CHARS_PER_TOKEN = 8

_SURROGATES = re.compile("[\ud800-\udfff]")
_WORD_START = re.compile(r"(?<=\S)\s")


class TextTokenizer:
    """Turns texts into the tokens that the model sees, cut at `max_seq_length`.

    Args:
        backend: Copied: the caller's truncation and padding stay as they are.
        max_seq_length: Most tokens of a text, special tokens included.
        lowercase: Whether to lower texts first, as some models ask beside their tokenizer.

    Raises:
        ConfigError: `max_seq_length` leaves no room for text beside the special tokens.
    """

    def __init__(self, backend: Backend, *, max_seq_length: int, lowercase: bool = False) -> None:
        self._backend = copy.deepcopy(backend)
        self._backend.no_truncation()
        self._backend.no_padding()
        self.max_seq_length, self._lowercase = max_seq_length, lowercase
        mask = self._backend.encode("a").special_tokens_mask
        # The special tokens after the text survive the cut.
        self._num_last = mask[::-1].index(0) if 0 in mask else 0
        if max_seq_length <= sum(mask):
            raise ConfigError(
                f"max_length must be larger than the {sum(mask)} special tokens of a text, got "
                f"{max_seq_length}: give at least {sum(mask) + 1}"
            )

    def tokenize(self, texts: Sequence[str], *, prefix: str = "") -> Tokens:
        """Tokens of `prefix + text` for each text.

        The length of a text of many times the maximum is a lower bound: its tail is not read.
        """
        ids, lengths = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            cleaned = [self._clean(prefix + text) for text in texts[start : start + TEXTS_AT_ONCE]]
            rows = [encoding.ids for encoding in self._encode_heads(cleaned)]
            cut = [self._cut(row) if len(row) > self.max_seq_length else row for row in rows]
            ids.append(np.fromiter(chain.from_iterable(cut), np.int32))
            lengths.append(np.fromiter(map(len, rows), np.int32, len(rows)))
        found = np.concatenate(lengths)
        ends = np.cumsum(np.minimum(found, self.max_seq_length), dtype=np.int64)
        return Tokens(np.concatenate(ids), np.concatenate([[0], ends]), found)

    def token_offsets(self, text: str) -> NDArray[np.int32]:
        """First and last character (exclusive) of each token of the bare text, `[tokens, 2]`."""
        parts, start = [np.empty((0, 2), np.int32)], 0
        for window in _windows(self._clean(text)):
            offsets = self._backend.encode(window, add_special_tokens=False).offsets
            parts.append(np.array(offsets, np.int32).reshape(-1, 2) + np.int32(start))
            start += len(window)
        return np.concatenate(parts)

    def _encode_heads(self, texts: Sequence[str]) -> list[Encoding]:
        """Encodings of the texts, of long ones only as far as the cut is sure not to change."""
        enough = 2 * self.max_seq_length
        chars = HEAD_CHARS_PER_TOKEN * enough
        encodings = self._backend.encode_batch_fast([text[:chars] for text in texts])
        for i, text in enumerate(texts):
            read = chars
            while read < len(text) and len(encodings[i]) < enough:
                read *= 4
                encodings[i] = self._backend.encode_batch_fast([text[:read]])[0]
        return encodings

    def _cut(self, ids: list[int]) -> list[int]:
        kept = self.max_seq_length - self._num_last
        return ids[:kept] + ids[len(ids) - self._num_last :]

    def _clean(self, text: str) -> str:
        # One character for one, also where lowering gives two, keeps the offsets right.
        if self._lowercase:
            text = "".join(low if len(low := char.lower()) == 1 else char for char in text)
        # The backend refuses lone surrogates.
        return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def _windows(text: str) -> Iterator[str]:
    """`text` in pieces that end before whitespace where there is some: memory stays bounded.

    A piece starts with the space that byte-level and SentencePiece vocabularies glue to the next
    word, so its tokens are those of the whole text.
    """
    start = 0
    while len(text) - start > WINDOW_CHARS:
        tail = WINDOW_CHARS // 2
        spaces = list(_WORD_START.finditer(text, start + tail, start + WINDOW_CHARS))
        stop = spaces[-1].start() if spaces else start + WINDOW_CHARS
        yield text[start:stop]
        start = stop
    yield text[start:]
