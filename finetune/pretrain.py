"""Pretraining: from text files to a language model, by one recipe."""

import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ragkit.config import adapter, config, data_folder
from ragkit.data import ReadOptions
from ragkit.data.collators import PackedCollator
from ragkit.data.packed import PackedDataset
from ragkit.data.packing import PackingMode
from ragkit.data.token_store import TokenStore
from ragkit.data.token_writer import tokenize_corpus
from ragkit.errors import ConfigError
from ragkit.finetune.vocabulary import prepare_tokenizer
from ragkit.models import Llama3Config, Llama3ForCausalLM
from ragkit.storage import make_folder
from ragkit.tokenizers.byte_counts import count_target_bytes
from ragkit.training import HeldOut, TrainingOptions, TrainingReport, train

_SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
# The tokenizer decides the ids and their number; weights are trained in float32, bf16 or not.
_DECIDED_ELSEWHERE = {*_SPECIAL_IDS, "vocab_size", "dtype"}
_PLACES = ("data_dir", "tokens", "out")

logger = logging.getLogger(__name__)


@config
class PackingOptions:
    """How documents become rows of equal length."""

    context_length: int
    """Tokens of a row."""
    mode: PackingMode = "bestfit"
    """`bestfit` cuts as few documents as it can; `stream` joins them all and cuts every row."""
    mask_documents: bool = True
    """Whether the documents of a row are kept from attending to one another."""
    held_out_share: float = 0.01
    """Of the documents, kept out of training to measure bits per byte on."""
    max_held_out_rows: int | None = None
    """Rows of them that are measured, for a small share of the run's time; all if not set."""

    def __post_init__(self) -> None:
        if self.max_held_out_rows is not None and self.max_held_out_rows < 1:
            raise ConfigError(
                f"max_held_out_rows must be at least 1, got {self.max_held_out_rows}: leave it out "
                "to measure all held-out rows"
            )


@config
class PretrainRecipe:
    """Which text, which model, and how long."""

    kind: Literal["pretrain"]
    data_dir: str = ""
    """Folder of the data sets; `RAGKIT_DATA`, or `data`, if empty."""
    inputs: tuple[str, ...]
    """Files of documents, below `data_dir`."""
    read: ReadOptions = ReadOptions()
    tokens: str
    """Folder of the tokenizer and the tokenised text; made anew unless it was made from the same
    files and options. Several runs may share it."""
    vocab_size: int
    """Of the byte-level BPE tokenizer that is trained on the text."""
    out: str
    """The run's folder."""
    model: dict[str, Any]
    """`kind: llama3` and sizes, by the names of its configuration."""
    packing: PackingOptions
    training: TrainingOptions


def run_pretrain(recipe: PretrainRecipe, *, overwrite: bool = False) -> TrainingReport:
    """Train a tokenizer and a model as the recipe says, or go on where a run like it was stopped.

    Args:
        overwrite: Begin anew if `out` holds another run.

    Raises:
        ConfigError: The parts of the recipe do not fit one another, or `out` holds another run.
        DataError: The text cannot be read, or there is too little of it.
        StorageError: The disk gave out.
    """
    # Before the text is read, which may take long: a wrong size is known now.
    make_config(recipe)
    tokenizer, store = prepare_tokens(recipe)
    split = store.split(recipe.packing.held_out_share)
    rows, held_out = (_pack(store, documents, recipe) for documents in split)
    logger.info("rows to train on: %s", rows.report)
    collator = PackedCollator(
        pad_token_id=tokenizer.pad_token_id, mask_documents=recipe.packing.mask_documents
    )
    return train(
        make_model(recipe, tokenizer),
        rows,
        collator=collator,
        options=recipe.training,
        out=Path(recipe.out),
        held_out=_held_out(held_out, recipe.packing, collator, tokenizer),
        tokenizer=tokenizer,
        recipe=resolved(recipe),
        facts={"tokens": store.made_from},
        overwrite=overwrite,
    )


def prepare_tokens(recipe: PretrainRecipe) -> tuple[PreTrainedTokenizerBase, TokenStore]:
    """The tokenizer and the tokenised text of the recipe, made unless they are there.

    Raises:
        ConfigError, DataError, StorageError: As for `run_pretrain`.
    """
    data, folder = data_folder(recipe.data_dir), Path(recipe.tokens)
    inputs = [str(data / name) for name in recipe.inputs]
    make_folder(folder)
    # One process makes them, whether of this run or of another; the others then find them.
    with FileLock(folder / "LOCK"):
        tokenizer = prepare_tokenizer(
            inputs, folder / "tokenizer", vocab_size=recipe.vocab_size, options=recipe.read
        )
        store = tokenize_corpus(
            inputs, folder / "store", tokenizer=tokenizer, options=recipe.read, prepend_bos=True
        )
    return tokenizer, store


def make_model(recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The model of the recipe with random weights, the same for the same seed."""
    special = {name: getattr(tokenizer, name) for name in _SPECIAL_IDS}
    sizes = make_config(recipe, special)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        return Llama3ForCausalLM(sizes)


def make_config(
    recipe: PretrainRecipe, special: Mapping[str, int] = MappingProxyType({})
) -> Llama3Config:
    """The configuration of the model of the recipe.

    Args:
        special: Ids of special tokens, by the names of the configuration.

    Raises:
        ConfigError: A key is unknown, a size makes no sense, or rows are longer than the context.
    """
    fields = dict(recipe.model)
    kind = fields.pop("kind", None)
    if kind != "llama3":
        raise ConfigError(f"model.kind must be llama3, got {kind!r}")
    for name in _DECIDED_ELSEWHERE & fields.keys():
        raise ConfigError(f"model.{name} follows from the rest of the recipe: leave it out")
    sizes = Llama3Config.from_fields({"vocab_size": recipe.vocab_size, **special, **fields})
    if recipe.packing.context_length > sizes.max_position_embeddings:
        raise ConfigError(
            f"packing.context_length is {recipe.packing.context_length} but "
            f"model.max_position_embeddings {sizes.max_position_embeddings}: lower the one or "
            "raise the other"
        )
    return sizes


def resolved(recipe: PretrainRecipe) -> dict[str, Any]:
    """What decides the run, as JSON values: all but the places of files."""
    tree: dict[str, Any] = adapter(PretrainRecipe).dump_python(recipe, mode="json")
    return {name: value for name, value in tree.items() if name not in _PLACES}


def _pack(store: TokenStore, documents: NDArray[np.int64], recipe: PretrainRecipe) -> PackedDataset:
    return PackedDataset.pack(
        store,
        context_length=recipe.packing.context_length,
        mode=recipe.packing.mode,
        documents=documents,
        seed=recipe.training.seed,
    )


def _held_out(
    rows: PackedDataset,
    packing: PackingOptions,
    collator: PackedCollator,
    tokenizer: PreTrainedTokenizerBase,
) -> HeldOut:
    chosen = [rows[place] for place in range(len(rows))[: packing.max_held_out_rows]]
    labels = [collator([row])["labels"] for row in chosen]
    return HeldOut(chosen, num_bytes=count_target_bytes(labels, tokenizer))
