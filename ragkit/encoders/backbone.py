"""Loads the transformer and the tokenizer of a model folder: safetensors only, quietly."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ragkit.errors import CheckpointError, ConfigError
from ragkit.hub import quiet_transformers

# Stands for "no limit" where neither position table nor tokenizer has one.
NO_LIMIT = 32_768
# In the names of weights that vectors do not pass through, whatever the model.
POOLER = "pooler"
# Their first position is the one after the padding token's number.
_POSITIONS_AFTER_PADDING = {"camembert", "mpnet", "roberta", "xlm-roberta"}


def load_config(folder: Path, *, trust_remote_code: bool = False) -> PreTrainedConfig:
    """The configuration of the transformer in `folder`.

    Raises:
        ConfigError: The model is of a kind that transformers does not know or trust.
        CheckpointError: It is unreadable.
    """
    with _translate_errors(folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    config.use_cache = False  # a decoder that embeds never reads its keys and values again
    return config


def load_backbone(folder: Path, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """The transformer in `folder`, in fp32 on the CPU, ready for inference.

    Raises:
        ConfigError: The model is of a kind that transformers does not know or trust.
        CheckpointError: Weights are missing, so that they would be random, or unreadable.
    """
    with _translate_errors(folder), quiet_transformers():
        config = load_config(folder, trust_remote_code=trust_remote_code)
        loader = AutoModelForTextEncoding if _is_half(config) else AutoModel
        model, report = loader.from_pretrained(
            folder,
            config=config,
            dtype="float32",
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    # Many encoders ship without the pooler of their class.
    missing = sorted(name for name in report["missing_keys"] if POOLER not in name)
    if missing:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} of the weights that its config.json asks for, such as "
            f"{missing[0]}: fetch the model again"
        )
    loaded: PreTrainedModel = model.eval()
    return loaded


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer in `folder`.

    Raises:
        ConfigError: It has no fast version, or cuts texts on the left.
        CheckpointError: It is unreadable.
    """
    with _translate_errors(folder), quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if not tokenizer.is_fast or tokenizer.truncation_side != "right":
        raise ConfigError(
            f"{folder.name} needs a fast tokenizer that cuts on the right, found "
            f"{type(tokenizer).__name__} that cuts on the {tokenizer.truncation_side}: "
            "save a tokenizer.json with it"
        )
    return tokenizer


def longest_text(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Most tokens that position table and tokenizer allow."""
    positions = getattr(config, "max_position_embeddings", None) or NO_LIMIT
    if config.model_type in _POSITIONS_AFTER_PADDING:
        positions -= (config.pad_token_id or 0) + 1
    return int(min(positions, tokenizer.model_max_length))


def _is_half(config: PreTrainedConfig) -> bool:
    """Whether the states come from the first half of an encoder-decoder, as in T5 and its kin."""
    saved_as_half = any(name.endswith("EncoderModel") for name in config.architectures or [])
    return bool(config.is_encoder_decoder) or saved_as_half


@contextmanager
def _translate_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, ImportError) as error:
        hint = (
            "read the code that comes with the model, then allow it with trust_remote_code=True"
            if "trust_remote_code" in str(error)
            else "choose another model or a newer transformers"
        )
        raise ConfigError(
            f"transformers cannot open {folder}: {_first_line(error)}: {hint}"
        ) from error
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} cannot be read ({_first_line(error)}): fetch the model again"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
