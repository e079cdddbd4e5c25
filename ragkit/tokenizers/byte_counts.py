"""How many bytes of text token ids stand for, which bits per byte are counted by."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from tokenizers import decoders
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ragkit.errors import ConfigError


def count_target_bytes(labels: Iterable[Tensor], tokenizer: PreTrainedTokenizerBase) -> int:
    """UTF-8 bytes of the text that all labels stand for; special tokens and -100 have none.

    Raises:
        ConfigError: The tokens do not spell bytes, so that bytes cannot be told from ids.
    """
    counts = token_byte_counts(tokenizer)
    return sum(int(counts[part[part >= 0].numpy()].sum()) for part in labels)


def token_byte_counts(tokenizer: PreTrainedTokenizerBase) -> NDArray[np.int64]:
    """Bytes of each token of a byte-level vocabulary, `[vocab]`.

    Raises:
        ConfigError: The tokens do not spell bytes.
    """
    if not isinstance(tokenizer.backend_tokenizer.decoder, decoders.ByteLevel):
        raise ConfigError(
            "expected a byte-level vocabulary: bits per byte need a tokenizer whose tokens spell "
            "bytes, such as train_bpe makes"
        )
    special, vocabulary = set(tokenizer.all_special_ids), tokenizer.get_vocab()
    counts = np.zeros(1 + max(vocabulary.values()), np.int64)
    for token, number in vocabulary.items():
        # One letter of a byte-level token stands for one byte.
        counts[number] = 0 if number in special else len(token)
    return counts
