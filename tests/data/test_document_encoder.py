from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from ragkit.data.document_encoder import DocumentEncoder, Window, batches
from ragkit.errors import ConfigError
from ragkit.tokenizers import train_bpe

TEXTS = [
    "It is one of the wings, in the end. It's the wing's lift and the drag.\n\nThe end.\r\nEnd\n",
    "def lift(speed):\n    return 0.5 * rho * speed ** 2  # in newton\n",
]
PIECES = [
    "the",
    " of",
    " ",
    "\n",
    "\r\n",
    "\n\n",
    ".",
    "wing's",
    "7",
    " 123",
    "\u6f22",
    " \u00e9",
    "_",
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe(TEXTS, vocab_size=311)


def word_tokenizer(pre_tokenizer, words, **special_tokens):
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0]))
    backend.pre_tokenizer = pre_tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token=words[0], **special_tokens)


def encode(encoder, text):
    return encoder.encode(list(encoder.windows(text)))[0].tolist()


@given(text=st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_document_in_parts_has_the_tokens_of_the_whole(tokenizer, text):
    whole = DocumentEncoder(tokenizer, prepend_bos=True)
    in_parts = DocumentEncoder(tokenizer, prepend_bos=True, window_chars=5)

    assert encode(in_parts, text) == encode(whole, text)
    assert "".join(window.text for window in in_parts.windows(text)) == text


def test_long_text_is_encoded_in_parts_of_some_characters(tokenizer):
    encoder = DocumentEncoder(tokenizer, window_chars=20)

    windows = list(encoder.windows("several words " * 10))

    assert max(len(window.text) for window in windows) < 30
    assert [window.begins for window in windows] == [True] + [False] * (len(windows) - 1)
    assert [window.ends for window in windows] == [False] * (len(windows) - 1) + [True]


def test_tokenizer_that_marks_the_start_of_a_text_gets_it_whole():
    pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer = word_tokenizer(pre_tokenizer, ["<unk>", "\u2581wing"], eos_token="</s>")

    encoder = DocumentEncoder(tokenizer, window_chars=3)

    assert list(encoder.windows("wing wing")) == [Window("wing wing")]


def test_text_that_spells_a_special_token_stays_text(tokenizer):
    text = "the<|eos|> end <|bos|><|pad|>"

    ids = encode(DocumentEncoder(tokenizer), text)

    assert ids[-1] == tokenizer.eos_token_id
    assert min(ids[:-1]) > 2
    assert tokenizer.decode(ids[:-1]) == text
    assert 1 in tokenizer(text)["input_ids"]  # the tokenizer itself is not altered


@pytest.mark.parametrize(
    ("append_eos", "prepend_bos", "first", "last"),
    [(True, True, [0], [1]), (True, False, [], [1]), (False, False, [], [])],
)
def test_special_tokens_stand_once_around_a_document(
    tokenizer, append_eos, prepend_bos, first, last
):
    encoder = DocumentEncoder(tokenizer, append_eos=append_eos, prepend_bos=prepend_bos)

    ids, lengths = encoder.encode([Window("the"), Window(""), Window("of")])

    between = [tokenizer("the")["input_ids"][1:], [], tokenizer("of")["input_ids"][1:]]
    framed = [[*first, *words, *last] for words in between]
    assert ids.tolist() == list(chain.from_iterable(framed))
    assert lengths.tolist() == [len(document) for document in framed]


def test_tokenizer_that_adds_special_tokens_itself_does_not_double_them(tokenizer):
    doubling = train_bpe(TEXTS, vocab_size=311)
    doubling.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|bos|> $A <|eos|>", special_tokens=[("<|bos|>", 0), ("<|eos|>", 1)]
    )

    ids = encode(DocumentEncoder(doubling, prepend_bos=True), "the end")

    assert ids == [*tokenizer("the end")["input_ids"], 1]


def test_fingerprint_tells_tokenizers_and_special_tokens_apart(tokenizer):
    smaller = train_bpe(TEXTS, vocab_size=310)

    prints = [
        DocumentEncoder(tokenizer).fingerprint,
        DocumentEncoder(tokenizer, append_eos=False).fingerprint,
        DocumentEncoder(tokenizer, prepend_bos=True).fingerprint,
        DocumentEncoder(smaller).fingerprint,
    ]

    assert len(set(prints)) == 4
    tokenizer.backend_tokenizer.enable_truncation(7)
    assert DocumentEncoder(tokenizer).fingerprint == prints[0]
    tokenizer.backend_tokenizer.no_truncation()


def test_tokenizer_whose_words_are_special_tokens_is_refused():
    words = ["<unk>", "wing", "</s>"]
    tokenizer = word_tokenizer(pre_tokenizers.WhitespaceSplit(), words, eos_token="</s>")
    encoder = DocumentEncoder(tokenizer)

    with pytest.raises(ConfigError, match=r"turns text into '</s>'.*a special token of its own"):
        encode(encoder, "wing </s> wing")


def test_tokenizer_without_the_special_token_asked_for_is_refused():
    tokenizer = word_tokenizer(pre_tokenizers.WhitespaceSplit(), ["<unk>", "wing"])

    with pytest.raises(ConfigError, match=r"no eos_token: set tokenizer\.eos_token"):
        DocumentEncoder(tokenizer)


def test_batches_end_when_they_are_large_enough():
    windows = [Window("x" * size) for size in (700_000, 400_000, 3, 1_200_000, 5)]

    sizes = [[len(window.text) for window in batch] for batch in batches(windows)]

    assert sizes == [[700_000, 400_000], [3, 1_200_000], [5]]
