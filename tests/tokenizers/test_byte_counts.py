import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from ragkit.errors import ConfigError
from ragkit.testing import tiny_tokenizer
from ragkit.tokenizers import train_bpe
from ragkit.tokenizers.byte_counts import count_target_bytes, token_byte_counts

TOKENIZER = train_bpe(["the heat of the wing, the drag of the wing"], vocab_size=265)


@given(text=st.text())
def test_the_tokens_of_a_text_have_the_bytes_of_the_text(text):
    ids = TOKENIZER.encode(text, add_special_tokens=False, split_special_tokens=True)

    assert token_byte_counts(TOKENIZER)[ids].sum() == len(text.encode())


def test_special_tokens_and_ignored_labels_have_no_bytes():
    ids = TOKENIZER.encode("wing", add_special_tokens=False)
    labels = [torch.tensor([[-100, *ids]]), torch.tensor([TOKENIZER.eos_token_id, -100])]

    assert count_target_bytes(labels, TOKENIZER) == 4


def test_a_vocabulary_that_does_not_spell_bytes_is_refused():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer())

    with pytest.raises(ConfigError, match="expected a byte-level vocabulary"):
        token_byte_counts(tokenizer)
