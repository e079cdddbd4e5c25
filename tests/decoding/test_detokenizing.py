"""Pieces of text, whatever the tokens: joined they are the whole, and no character is broken."""

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from ragkit.decoding.detokenizing import REPLACEMENT, PieceDecoder, decode_tokens
from tests.decoding.tiny import EOS, TEXT, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.text("\u00e9\u6c34\U0001f600 a\n")


def pieces_of(tokenizer, tokens):
    decoder = PieceDecoder(tokenizer)
    return [decoder.push(token) for token in tokens] + [decoder.flush()]


@given(text=TEXTS)
def test_pieces_of_a_text_are_whole_characters(text):
    tokens = TOKENIZER(text, add_special_tokens=False)["input_ids"]

    pieces = pieces_of(TOKENIZER, tokens)

    assert "".join(pieces) == text
    assert REPLACEMENT in text or not any(REPLACEMENT in piece for piece in pieces)


@given(tokens=st.lists(st.integers(0, 300) | st.integers(130, 258)))
def test_pieces_of_any_tokens_join_to_their_text(tokens):
    pieces = pieces_of(TOKENIZER, tokens)

    assert "".join(pieces) == decode_tokens(TOKENIZER, tokens)


def test_text_comes_as_soon_as_its_characters_are_complete():
    tokens = TOKENIZER("a\u6c34b\U0001f923", add_special_tokens=False)["input_ids"]
    ends = [decode_tokens(TOKENIZER, tokens[: i + 1]) for i in range(len(tokens))]

    pieces = pieces_of(TOKENIZER, tokens)

    shown = ["".join(pieces[: i + 1]) for i in range(len(tokens))]
    assert shown == [text.rstrip(REPLACEMENT) for text in ends]
    assert pieces[-1] == ""


def test_special_tokens_have_no_text_even_within_a_character():
    first, *rest = TOKENIZER("\U0001f923", add_special_tokens=False)["input_ids"]
    end = TOKENIZER.convert_tokens_to_ids(EOS)

    pieces = pieces_of(TOKENIZER, [end, first, end, *rest, end])

    assert "".join(pieces) == "\U0001f923"


@given(words=st.lists(st.sampled_from([*TEXT.split(), "<0x41>", "\u2581"]), max_size=8))
def test_spaces_between_words_survive_a_decoder_that_strips_the_first(words):
    vocabulary = {word: number for number, word in enumerate(sorted({*words, "\u2581the", "of"}))}
    tokenizer = Tokenizer(BPE(vocabulary, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    tokens = [vocabulary["\u2581the"], *(vocabulary[word] for word in words), vocabulary["of"]]

    pieces = pieces_of(wrapped, tokens)

    assert "".join(pieces) == decode_tokens(wrapped, tokens)
