import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import BPE, WordLevel
from transformers import PreTrainedTokenizerFast

from ragkit.errors import ConfigError
from ragkit.evaluation.text_tokenizer import TextTokenizer, begins_with_bos
from tests.evaluation.models import tiny_bpe

BYTE_LEVEL = tiny_bpe()


def fallback_tokenizer():
    """Tokens as Llama 2 has them: words with a mark for the space, else the bytes of UTF-8."""
    words = ["<unk>", "\u2581", "a", "b", "\u2581a", *(f"<0x{byte:02X}>" for byte in range(256))]
    numbers = {word: number for number, word in enumerate(words)}
    backend = Tokenizer(
        BPE(numbers, [("\u2581", "a")], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


def word_tokenizer(**special):
    backend = Tokenizer(WordLevel({"<s>": 0, "<unk>": 1, "wing": 2}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", **special)


@given(st.text())
def test_all_bytes_count_after_the_token_that_begins_a_text(text):
    tokenized = TextTokenizer(BYTE_LEVEL, bos=True)(text)

    assert tokenized.input_ids[0] == BYTE_LEVEL.bos_token_id
    assert tokenized.num_bytes == len(text.encode())


@given(st.text(min_size=1))
def test_the_bytes_of_the_unscored_token_do_not_count(text):
    tokenized = TextTokenizer(BYTE_LEVEL, bos=False)(text)

    # In a byte-level vocabulary each sign of a token is one byte.
    tokens = BYTE_LEVEL.convert_ids_to_tokens(tokenized.input_ids.tolist())
    assert tokenized.num_scored == len(tokens) - 1
    assert tokenized.num_bytes == sum(map(len, tokens[1:]))


def test_a_first_character_of_several_tokens_is_split():
    tokenized = TextTokenizer(BYTE_LEVEL, bos=False)("\U0001f600")

    assert (tokenized.num_scored, tokenized.num_bytes) == (3, 3)


@pytest.mark.parametrize(
    ("text", "num_bytes"), [("a b", 2), (" a b", 2), ("\u00e9a", 2), ("<0x41>", 5)]
)
def test_byte_fallback_counts_bytes(text, num_bytes):
    tokenized = TextTokenizer(fallback_tokenizer(), bos=False)(text)

    assert tokenized.num_bytes == num_bytes


def test_unknown_words_count_with_the_space_after_them():
    tokenized = TextTokenizer(word_tokenizer(), bos=False)("fl\u00fcgel wing wing")

    assert tokenized.num_bytes == len("wing wing")


def test_text_that_spells_a_special_token_stays_text():
    text = f"the {BYTE_LEVEL.eos_token} wing"

    tokenized = TextTokenizer(BYTE_LEVEL, bos=False)(text)

    assert BYTE_LEVEL.eos_token_id not in tokenized.input_ids
    assert BYTE_LEVEL.decode(tokenized.input_ids) == text


@pytest.mark.parametrize("text", ["", "w"])
def test_nothing_is_scored_of_less_than_two_tokens(text):
    tokenized = TextTokenizer(BYTE_LEVEL, bos=False)(text)

    assert (tokenized.num_scored, tokenized.num_bytes) == (0, 0)


def test_a_tokenizer_without_the_token_that_begins_a_text_is_refused():
    with pytest.raises(ConfigError, match="has no bos_token"):
        TextTokenizer(word_tokenizer(), bos=True)


def test_the_tokenizer_says_whether_a_text_begins_with_a_token():
    plain, begun = word_tokenizer(bos_token="<s>"), word_tokenizer(bos_token="<s>")
    begun.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )

    assert [begins_with_bos(one) for one in (plain, begun, word_tokenizer())] == [
        False,
        True,
        False,
    ]
