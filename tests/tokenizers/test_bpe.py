import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer

from ragkit.errors import ConfigError, DataError
from ragkit.tokenizers import SPECIAL_TOKENS, train_bpe

TEXTS = [
    "The wing's lift grows with the square of the speed, and so does the drag.",
    "We've measured 1234567 flows; they're steady, aren't they?\n\nThe wings weren't.\r\n",
    "def lift(speed):\n    return 0.5 * rho * speed ** 2  # in newton\n",
    "\u7ffc\u306e\u63da\u529b\u306f\u901f\u5ea6\u306e\u4e8c\u4e57\u306b\u6bd4\u4f8b\u3059\u308b",
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe(TEXTS, vocab_size=331)


@given(text=st.text() | st.sampled_from(TEXTS))
def test_decoding_gives_back_the_text(tokenizer, text):
    ids = tokenizer(text)["input_ids"]

    assert tokenizer.decode(ids[1:]) == text


def test_every_byte_is_a_token(tokenizer):
    assert set(ByteLevel.alphabet()) < set(tokenizer.get_vocab())


def test_vocabulary_has_the_size_asked_for_and_special_tokens_come_first(tokenizer):
    assert len(tokenizer) == 331
    assert sorted(tokenizer.get_vocab().values()) == list(range(331))
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1, 2)


def test_a_text_begins_with_one_special_token_and_has_no_other(tokenizer):
    ids = tokenizer("the wings")["input_ids"]

    assert ids[0] == tokenizer.bos_token_id
    assert not set(ids[1:]) & {0, 1, 2}


def test_the_first_token_follows_the_order_of_the_special_tokens():
    names = {"pad_token": "<p>", "eos_token": "<e>", "bos_token": "<b>"}

    tokenizer = train_bpe(TEXTS, vocab_size=331, special_tokens=names)

    assert tokenizer("the")["input_ids"][0] == tokenizer.bos_token_id == 2


def test_equal_texts_give_an_equal_tokenizer(tokenizer):
    again = train_bpe(iter(TEXTS), vocab_size=331)

    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_saved_tokenizer_is_read_back(tokenizer, tmp_path):
    train_bpe(TEXTS, vocab_size=331, out=tmp_path / "bpe")

    loaded = AutoTokenizer.from_pretrained(tmp_path / "bpe")

    assert loaded.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    assert loaded(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (0, 1, 2)


def test_special_tokens_may_have_other_names():
    names = {**SPECIAL_TOKENS, "eos_token": "</s>"}

    tokenizer = train_bpe(TEXTS, vocab_size=290, special_tokens=names)

    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("</s>", 1)


def test_words_numbers_and_line_breaks_are_cut_apart(tokenizer):
    cut = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str

    words = [word for word, _ in cut("they're 12345 e\u0301t\u00e9...\n\nOK  go")]

    decode = tokenizer.backend_tokenizer.decoder.decode
    assert [decode([word]) for word in words] == [
        *("they", "'re", " ", "123", "45", " e\u0301t\u00e9", "...\n\n", "OK", " ", " go")
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        ({"vocab_size": 258}, ConfigError, "259 or more.*raise it"),
        ({"vocab_size": 5000}, DataError, "a vocab_size of at most"),
        (
            {"vocab_size": 300, "special_tokens": {"eos_token": "</s>"}},
            ConfigError,
            "add what is missing",
        ),
        (
            {"vocab_size": 300, "special_tokens": dict.fromkeys(SPECIAL_TOKENS, "</s>")},
            ConfigError,
            "each differently",
        ),
    ],
)
def test_vocabulary_that_cannot_be_is_refused(arguments, error, hint):
    with pytest.raises(error, match=hint):
        train_bpe(TEXTS, **arguments)
