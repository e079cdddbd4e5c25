"""Byte-level BPE vocabularies learnt from a corpus (Sennrich et al. 2016, arXiv:1508.07909)."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from ragkit.console import track
from ragkit.errors import ConfigError, DataError

SPECIAL_TOKENS: Mapping[str, str] = {
    "bos_token": "<|bos|>",
    "eos_token": "<|eos|>",
    "pad_token": "<|pad|>",
}

# As in the tokenizers of GPT-4 and Llama 3: contractions, words with the space before them, up to
# three digits, punctuation with its line break, white space. Combining marks stay with letters.
_WORDS = "|".join(
    (
        r"(?i:'(?:[sdmt]|ll|ve|re))",
        r"[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)


def train_bpe(
    texts: Iterable[str],
    *,
    vocab_size: int,
    out: Path | None = None,
    special_tokens: Mapping[str, str] = SPECIAL_TOKENS,
) -> PreTrainedTokenizerFast:
    """A tokenizer for any text, lossless, with a vocabulary of exactly `vocab_size` tokens.

    A text that it encodes begins with the beginning-of-text token.

    Equal texts give an equal tokenizer. The texts are read once, one at a time: memory grows with
    the number of different words alone.

    Args:
        vocab_size: Special tokens and the 256 bytes included.
        out: A folder to save to; `from_pretrained` reads it.
        special_tokens: Tokens by their names in Hugging Face; they get the first ids.

    Raises:
        ConfigError: A special token is missing or named twice, or `vocab_size` leaves no room.
        DataError: The texts are too short or too uniform for so large a vocabulary.
    """
    _check(vocab_size, special_tokens)
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    # Documents begin with it in training, so texts do afterwards.
    bos = special_tokens["bos_token"]
    number = list(special_tokens.values()).index(bos)  # they get the first ids
    backend.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B:1", special_tokens=[(bos, number)]
    )
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special_tokens.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(track(texts, description="Reading texts for BPE"), trainer)
    _require_size(backend.get_vocab_size(), vocab_size)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **special_tokens)
    if out is not None:
        tokenizer.save_pretrained(out)
    return tokenizer


def _check(vocab_size: int, special_tokens: Mapping[str, str]) -> None:
    missing = SPECIAL_TOKENS.keys() - special_tokens.keys()
    if missing or len(set(special_tokens.values())) < len(special_tokens):
        raise ConfigError(
            f"special_tokens must name {', '.join(SPECIAL_TOKENS)} and each differently, got "
            f"{dict(special_tokens)}: add what is missing or leave them out"
        )
    least = len(special_tokens) + 256
    if vocab_size < least:
        raise ConfigError(
            f"vocab_size must be {least} or more, for {len(special_tokens)} special tokens and 256 "
            f"bytes, got {vocab_size}: raise it"
        )


def _require_size(found: int, vocab_size: int) -> None:
    if found < vocab_size:
        raise DataError(
            f"the texts give a vocabulary of {found} tokens, {vocab_size} were asked for: give "
            f"more text, or a vocab_size of at most {found}"
        )
