"""Tokenizers that are made here."""

from ragkit.tokenizers.bpe import SPECIAL_TOKENS, train_bpe

__all__ = ["SPECIAL_TOKENS", "train_bpe"]
