"""A GGUF file as a safetensors checkpoint: dequantised once and kept in a cache.

Left in its blocks a model neither trains nor runs fast, and unpacking them takes long.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedConfig,
)
from transformers.utils.import_utils import is_gguf_available

from ragkit.errors import CheckpointError, MissingDependencyError, StorageError
from ragkit.hub import quiet_transformers
from ragkit.models.checkpoint import (
    first_line,
    require_causal,
    save_checkpoint,
    translated_errors,
)
from ragkit.models.tensors import require_exact
from ragkit.storage import hash_file, make_folder, published_folder

CONVERSION = 1
"""Counts up when a conversion gives another result, so that old ones are not read."""

_MAGIC = b"GGUF"

logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where what can be made again is kept: `$RAGKIT_CACHE`, or `ragkit` in the user's cache."""
    if chosen := os.environ.get("RAGKIT_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "ragkit"


def convert_gguf(path: Path) -> Path:
    """The folder in the cache with the tensors of the GGUF file `path`; made if it is not there.

    Weights become fp32, which holds every kind of block and of half precision exactly.
    Any number of processes may ask at once: one converts, the others wait for it.

    Raises:
        CheckpointError: The file is no GGUF, is damaged, or holds no causal LM.
        MissingDependencyError: The package `gguf` is not installed.
        StorageError: The cache cannot be written.
    """
    _require_gguf(path)
    with translated_errors(path):
        folder = cache_folder() / "models" / f"{hash_file(path)}-{CONVERSION}"
    if folder.is_dir():
        return folder
    try:
        make_folder(folder.parent)
        with FileLock(folder.with_suffix(".lock")):
            if not folder.is_dir():
                with published_folder(folder) as partial:
                    _convert(path, partial)
    except OSError as error:  # StorageError is one
        raise StorageError(f"{error}; RAGKIT_CACHE names another folder") from error
    return folder


def read_gguf_config(path: Path) -> PreTrainedConfig:
    """The configuration in a GGUF file, without its tensors.

    Raises:
        CheckpointError: The file is no GGUF, is damaged, or holds no causal LM.
        MissingDependencyError: The package `gguf` is not installed.
    """
    _require_gguf(path)
    with _translated_errors(path):
        config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    require_causal(config, path)
    return config


def _convert(path: Path, folder: Path) -> None:
    config = read_gguf_config(path)
    logger.info("converting %s to safetensors, once", path)
    with _translated_errors(path):
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path.parent,
            config=config,
            gguf_file=path.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
            device_map={"": torch.device("cpu")},
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    model, report = loaded
    require_exact(model, report, path)
    save_checkpoint(model, tokenizer, folder)
    _drop_foreign_tokens(folder / "tokenizer.json", vocab_size=config.vocab_size)


def _drop_foreign_tokens(vocabulary: Path, *, vocab_size: int) -> None:
    """Remove what transformers adds to byte-level vocabularies and the model has no row for.

    It builds them on GPT-2's tokenizer, whose `<|endoftext|>` comes along.
    """
    state = json.loads(vocabulary.read_text(encoding="utf-8"))
    own = [token for token in state["added_tokens"] if token["id"] < vocab_size]
    if len(own) < len(state["added_tokens"]):
        state["added_tokens"] = own
        vocabulary.write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")


def _require_gguf(path: Path) -> None:
    if not is_gguf_available():
        raise MissingDependencyError(f"{path} needs the package gguf: run `pip install gguf`")
    with translated_errors(path), path.open("rb") as file:
        magic = file.read(len(_MAGIC))
    if magic != _MAGIC:
        raise CheckpointError(
            f"{path} is no GGUF file (it starts with {magic!r}): give a .gguf file or the folder "
            "of a model"
        )


@contextmanager
def _translated_errors(path: Path) -> Iterator[None]:
    with translated_errors(path), quiet_transformers():
        try:
            yield
        except (ValueError, LookupError) as error:
            raise CheckpointError(
                f"{path} is cut short, or of a kind that transformers does not read "
                f"({first_line(error)}): fetch it again, or choose another quantisation"
            ) from error
