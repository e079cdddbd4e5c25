"""Model folders: what must be in one, and how transformers' errors become ours."""

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ragkit.errors import CheckpointError, ConfigError, RagkitError, StorageError
from ragkit.hub import quiet_transformers

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_MISFITS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, ImportError)
_CAUSAL_ENDINGS = ("ForCausalLM", "LMHeadModel")


def read_config(folder: Path) -> PreTrainedConfig:
    """The configuration of the causal LM in `folder`.

    Raises:
        CheckpointError: There is none, it is damaged, or the model is no causal LM.
        ConfigError: Its values do not fit together, or transformers does not know its kind.
    """
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} has no config.json: {_mend_of(folder)}")
    with translated_errors(folder), quiet_transformers():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    require_causal(config, folder)
    _require_settings(folder)
    return config


def require_causal(config: PreTrainedConfig, origin: Path) -> None:
    """Refuse a model that does not predict the next token.

    Raises:
        CheckpointError: It is an encoder, a sequence-to-sequence model, or has another head.
    """
    kind, saved_as = config.model_type, config.architectures or []
    known = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and not config.is_encoder_decoder
    # Without this word an encoder would be opened as a decoder with an untrained head.
    if known and (not saved_as or any(_is_causal(name, config) for name in saved_as)):
        return
    raise CheckpointError(
        f"{origin} holds {', '.join(saved_as) or 'a model'} of model_type {kind!r}, expected a "
        "causal language model (architectures ...ForCausalLM): choose another checkpoint, or for "
        "an encoder ragkit.encoders.load_encoder"
    )


def require_weights(folder: Path) -> None:
    """Open the header of every weight file, which shows what a broken download lacks.

    Raises:
        CheckpointError: A file is absent or damaged, or the weights are pickled.
    """
    for path in _weight_files(folder):
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path} is damaged or cut short ({first_line(error)}): fetch or save it again"
            ) from error


@contextmanager
def translated_errors(origin: Path) -> Iterator[None]:
    """Turn what transformers raises on reading `origin` into errors that say what to do."""
    try:
        yield
    except RagkitError:
        raise
    except StrictDataclassError as error:
        raise ConfigError(
            f"{origin}: its configuration does not make sense: {_last_line(error)}: "
            "mend that field of config.json"
        ) from error
    except torch.OutOfMemoryError as error:
        raise StorageError(
            f"{origin} does not fit in the memory of the device ({first_line(error)}): give "
            "dtype='bf16', or device='cpu'"
        ) from error
    except (OSError, RuntimeError, SafetensorError, UnicodeDecodeError, struct.error) as error:
        raise CheckpointError(
            f"{origin} cannot be read ({first_line(error)}): fetch or save it again"
        ) from error
    except _MISFITS as error:
        raise ConfigError(
            f"transformers cannot open {origin}: {first_line(error)}: choose another model or a "
            "newer transformers; code that comes with a model is never run"
        ) from error


def save_checkpoint(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> None:
    """Write model, settings of `generate` and tokenizer to `folder`, weights as safetensors.

    Raises:
        CheckpointError: The settings of `generate` contradict each other.
        StorageError: The disk gave out.
    """
    with quiet_transformers():
        try:
            model.save_pretrained(folder)
        except ValueError as error:
            raise CheckpointError(
                f"generation_config.json does not make sense: {first_line(error)}: mend it in the "
                "folder of the model"
            ) from error
        except SafetensorError as error:
            raise StorageError(
                f"cannot write {folder} ({first_line(error)}): free some space"
            ) from error
        tokenizer.save_pretrained(folder)


def first_line(error: BaseException) -> str:
    """What an error says, without the advice that follows."""
    return (str(error).strip() or type(error).__name__).split("\n")[0]


def _last_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[-1].strip()


def _require_settings(folder: Path) -> None:
    """Transformers forgets the tokens that end a text, without a word, where this is damaged."""
    path = folder / "generation_config.json"
    try:
        if path.is_file():
            json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged ({first_line(error)}): fetch it again, or remove it"
        ) from error


def _is_causal(name: str, config: PreTrainedConfig) -> bool:
    chosen: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return name.endswith(_CAUSAL_ENDINGS) or name == chosen.__name__


def _mend_of(folder: Path) -> str:
    if not folder.is_dir():
        return "give a folder with a model, or a .gguf file"
    if (folder / "adapter_config.json").is_file():
        return "it is a PEFT adapter; load its base model, then peft.PeftModel.from_pretrained"
    if found := sorted(path.name for path in folder.glob("*.gguf")):
        return f"give the path of one of its GGUF files: {', '.join(found)}"
    return "give the folder that `save_pretrained` wrote"


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / WEIGHTS_INDEX).is_file():
        pickled = [path.name for pattern in _PICKLES for path in folder.glob(pattern)]
        raise CheckpointError(
            f"{folder} has neither {WEIGHTS} nor {WEIGHTS_INDEX}: "
            + (
                f"pickled weights ({pickled[0]}) run code when they are read and never are; where "
                "you trust them, `save_pretrained` of transformers writes safetensors"
                if pickled
                else "fetch the model again"
            )
        )
    shards = _read_shards(folder / WEIGHTS_INDEX)
    missing = [path.name for path in shards if not path.is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} of {len(shards)} weight files, such as {missing[0]}: "
            "fetch the model again"
        )
    return shards


def _read_shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return [index.parent / name for name in sorted(names)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{index} is damaged ({first_line(error)}): fetch the model again"
        ) from error
