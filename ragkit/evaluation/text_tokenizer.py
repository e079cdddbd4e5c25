"""Documents as the model reads them, with the bytes that are predicted of each."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerBase

from ragkit.data.document_encoder import DocumentEncoder, batches

_BYTE_LEVEL = ByteLevel(add_prefix_space=False, use_regex=False)
_BYTE_FALLBACK = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """The tokens of a document, the first of which is context only.

    Args:
        input_ids: `[seq]`.
        num_bytes: UTF-8 bytes of the text that all tokens but the first spell.
    """

    input_ids: NDArray[np.int64]
    num_bytes: int

    @property
    def num_scored(self) -> int:
        """Tokens that can be predicted."""
        return max(0, len(self.input_ids) - 1)


class TextTokenizer:
    """Encodes whole documents; text that spells a special token stays text.

    Args:
        tokenizer: Must be a fast one.
        bos: Whether the tokenizer's `bos_token` goes in front, so that every token of the text is
            predicted and every byte counts.

    Raises:
        ConfigError: The tokenizer is not fast, or `bos` is wanted and it has no `bos_token`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, bos: bool) -> None:
        self._encoder = DocumentEncoder(tokenizer, append_eos=False, prepend_bos=bos)
        self._tokenizer, self._bos = tokenizer, bos

    def __call__(self, text: str) -> TokenizedText:
        """The tokens of `text`, and the bytes of those that can be predicted."""
        parts = [self._encoder.encode(group)[0] for group in batches(self._encoder.windows(text))]
        ids = np.concatenate(parts).astype(np.int64)
        num_bytes = len(text.encode())
        if not self._bos:
            num_bytes = num_bytes - self._first_token_bytes(text, ids) if len(ids) > 1 else 0
        return TokenizedText(ids, num_bytes)

    def _first_token_bytes(self, text: str, ids: NDArray[np.int64]) -> int:
        """UTF-8 bytes of `text` that its first token spells.

        The two kinds of tokens that split a character, byte-level alphabets (one sign for each
        byte) and byte fallback, are read byte by byte. Of others it is all before the second token.
        """
        token = str(self._tokenizer.convert_ids_to_tokens(int(ids[0])))
        [(spelled, _)] = _BYTE_LEVEL.pre_tokenize_str(text[: len(token)])
        if spelled.startswith(token):
            return len(token)
        if _BYTE_FALLBACK.fullmatch(token):
            return 1
        head = next(self._encoder.windows(text)).text
        offsets = self._tokenizer(
            head, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        ).offset_mapping
        return len(text[: offsets[1][0]].encode())


def begins_with_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts its `bos_token` in front of a text that it encodes."""
    begin = tokenizer("").input_ids[:1]
    return tokenizer.bos_token_id is not None and begin == [tokenizer.bos_token_id]
