"""The tokenizer of a checkpoint, and the token that pads."""

import logging
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ragkit.errors import CheckpointError
from ragkit.hub import quiet_transformers
from ragkit.models.checkpoint import first_line

LLAMA3_PAD_TOKEN = "<|finetune_right_pad_id|>"
"""Reserved for padding in the vocabulary of Llama 3.1 and later, though no config names it."""

_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")

logger = logging.getLogger(__name__)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in `folder`, as it was saved.

    Raises:
        CheckpointError: There is none, or it is damaged or of a kind that transformers lacks.
    """
    # Without its files transformers makes an empty tokenizer of the model's usual kind.
    if not any((folder / name).is_file() for name in _FILES):
        raise CheckpointError(
            f"{folder} has no tokenizer (none of {', '.join(_FILES)}): save one there with "
            "`tokenizer.save_pretrained`, or copy the tokenizer*.json of the model it comes from"
        )
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise CheckpointError(
            f"the tokenizer in {folder} cannot be read ({first_line(error)}): fetch or save it "
            "again; code that comes with a model is never run"
        ) from error


def require_vocabulary(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, folder: Path
) -> None:
    """Refuse a tokenizer whose ids reach beyond the embedding table.

    Raises:
        CheckpointError: The last token has no row.
    """
    embedding: Any = model.get_input_embeddings()
    rows = embedding.weight.shape[0]
    token, number = max(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    if number >= rows:
        raise CheckpointError(
            f"the tokenizer in {folder} gives ids up to {number} ({token!r}), the model has "
            f"vocab_size={rows}: take the tokenizer that belongs to it, or train the new tokens "
            "after `model.resize_token_embeddings(len(tokenizer))`"
        )


def choose_pad_token(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer that has no padding token one, in place.

    Llama 3 has none: its reserved one is taken where the vocabulary has it, else the token that
    ends a text. Padding is masked, never recognised by its id, so that a real end stays one.
    """
    if tokenizer.pad_token_id is None:
        has_reserved = LLAMA3_PAD_TOKEN in tokenizer.get_vocab()
        tokenizer.pad_token = LLAMA3_PAD_TOKEN if has_reserved else tokenizer.eos_token
        logger.info("the tokenizer names no padding token: taking %s", tokenizer.pad_token)
