"""Token ids of whole documents, in bounded memory, with special tokens that are ours alone."""

import copy
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from ragkit.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# An encoding holds some hundred bytes a token until its ids are taken out.
WINDOW_CHARS = 65_536
BATCH_CHARS = 1_048_576

# Before a single space or after a single line break, with a letter behind it: there the pattern of
# every byte-level tokenizer cuts. `_PROBE` tells them from those that join words.
_WORD_START = re.compile(r"(?<=\S)(?= [^\W\d_])|(?<=\S\n)(?=[^\W\d_])")
_PROBE = ("It is", " one", " of", " the", " wings,\n", "in 12", " and", " in", " the.\n", "End")


class Window(NamedTuple):
    """A document, or a part of a long one.

    Args:
        begins: Whether the document's first character is in it.
        ends: Whether the document's last character is in it.
    """

    text: str
    begins: bool = True
    ends: bool = True


class DocumentEncoder:
    """Encodes documents; text that spells a special token stays text.

    Args:
        tokenizer: Must be a fast one; it is copied, so that its own settings stay.
        append_eos: Whether each document ends with the end-of-text token.
        prepend_bos: Whether each document begins with the beginning-of-text token.
        window_chars: Characters from which on a document is encoded in parts.

    Raises:
        ConfigError: The tokenizer is not fast, or lacks a special token that is asked for.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        append_eos: bool = True,
        prepend_bos: bool = False,
        window_chars: int = WINDOW_CHARS,
    ) -> None:
        if not tokenizer.is_fast:
            raise ConfigError(
                f"expected a fast tokenizer, got {type(tokenizer).__name__}: load it with "
                "AutoTokenizer from a folder with a tokenizer.json"
            )
        self._backend = copy.deepcopy(tokenizer.backend_tokenizer)
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = True  # as text, that is
        self.vocab_size = 1 + max(self._backend.get_vocab().values())
        """One more than the largest id."""
        self._begin = [_special(tokenizer, "bos_token")] if prepend_bos else []
        self._end = [_special(tokenizer, "eos_token")] if append_eos else []
        self._window_chars = window_chars
        self._windowed = self._cuts_before_words()

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides which ids a text gets, in hex."""
        settings = f"{self._backend.to_str()} {self._begin} {self._end}"
        return xxhash.xxh3_128_hexdigest(settings.encode("utf-8"))

    def windows(self, text: str) -> Iterator[Window]:
        """`text` in parts that are encoded alone, whose ids together are those of the text.

        A tokenizer that does not cut before each word gets the text whole.
        """
        start = 0
        while self._windowed and (cut := _WORD_START.search(text, start + self._window_chars)):
            yield Window(text[start : cut.start()], begins=start == 0, ends=False)
            start = cut.start()
        yield Window(text[start:], begins=start == 0)

    def encode(self, windows: Sequence[Window]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Ids of all windows `[tokens]`, and how many are of each `[windows]`.

        Raises:
            ConfigError: The tokenizer turns text into a special token that is ours.
        """
        texts = [window.text for window in windows]
        encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        rows = [encoding.ids for encoding in encodings]
        self._refuse_special(rows)
        framed = [
            [*(self._begin if window.begins else ()), *row, *(self._end if window.ends else ())]
            for window, row in zip(windows, rows, strict=True)
        ]
        lengths = np.fromiter(map(len, framed), np.int64, len(framed))
        return np.fromiter(chain.from_iterable(framed), np.uint32, lengths.sum()), lengths

    def _refuse_special(self, rows: Sequence[Sequence[int]]) -> None:
        for special in (*self._begin, *self._end):
            if any(special in row for row in rows):
                raise ConfigError(
                    f"the tokenizer turns text into {self._backend.id_to_token(special)!r}, which "
                    "must only stand between documents: use a tokenizer with a special token of "
                    "its own for that"
                )

    def _cuts_before_words(self) -> bool:
        """Whether words encode alone as they do within a text."""
        parts = [self._backend.encode(part, add_special_tokens=False).ids for part in _PROBE]
        whole = self._backend.encode("".join(_PROBE), add_special_tokens=False).ids
        return list(chain.from_iterable(parts)) == whole


def batches(windows: Iterable[Window]) -> Iterator[list[Window]]:
    """The windows in groups that are large enough to encode in parallel, and no larger."""
    batch: list[Window] = []
    num_chars = 0
    for window in windows:
        batch.append(window)
        num_chars += len(window.text)
        if num_chars >= BATCH_CHARS:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch


def _special(tokenizer: "PreTrainedTokenizerBase", role: str) -> int:
    number = getattr(tokenizer, f"{role}_id")
    if number is None:
        raise ConfigError(
            f"the tokenizer has no {role}: set tokenizer.{role}, or do not ask for it "
            "(append_eos, prepend_bos)"
        )
    return int(number)
