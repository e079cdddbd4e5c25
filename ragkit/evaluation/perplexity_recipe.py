"""A recipe that measures how well a model predicts the documents of some files."""

import logging
from collections.abc import Sequence
from typing import Literal

from ragkit.config import config, data_folder
from ragkit.data import Rejects, read_documents
from ragkit.evaluation.perplexity import PerplexityReport, evaluate_perplexity
from ragkit.evaluation.perplexity_options import PerplexityOptions
from ragkit.models.loading import load_model

DEFAULT_OPTIONS = PerplexityOptions()

logger = logging.getLogger(__name__)


@config
class PerplexityRecipe:
    """Which model, which documents, and how they are scored."""

    kind: Literal["perplexity"]
    model: str
    """A folder, a GGUF file, a hub id or `package:NAME`."""
    data_dir: str = ""
    """Folder of the data sets; `RAGKIT_DATA`, or `data`, if empty."""
    inputs: tuple[str, ...]
    """Files of documents, below `data_dir`."""
    options: PerplexityOptions = DEFAULT_OPTIONS


def run_perplexity(recipe: PerplexityRecipe) -> PerplexityReport:
    """Score the documents that a recipe names.

    Raises:
        CheckpointError, ConfigError, DataError, HubError, MissingDependencyError, StorageError: As
            for `measure_perplexity`.
    """
    data = data_folder(recipe.data_dir)
    inputs = [str(data / name) for name in recipe.inputs]
    return measure_perplexity(recipe.model, inputs, recipe.options)


def measure_perplexity(
    model: str, inputs: Sequence[str], options: PerplexityOptions = DEFAULT_OPTIONS
) -> PerplexityReport:
    """How well the model that `model` names predicts the documents of files.

    Args:
        model: As `load_model` takes it.
        inputs: As `read_documents` takes them.

    Raises:
        CheckpointError: The checkpoint is damaged, or gives no finite likelihood.
        ConfigError: An option makes no sense, or does not fit the model.
        DataError: An input is missing, too many rows are refused, or nothing can be predicted.
        HubError: A model or dataset is not on disk and the hub cannot be reached.
        MissingDependencyError: A package that the model or an input needs is not installed.
        StorageError: The device runs out of memory.
    """
    with Rejects() as rejects:
        documents = [
            document.text
            for document in read_documents(inputs, options=options.read, rejects=rejects)
        ]
    rejects.check(len(documents) + rejects.refused, options.max_rejects)
    replaced = rejects.counts["invalid_utf8"]
    if replaced and options.read.on_invalid_utf8 == "replace":
        logger.warning(
            "%d documents hold bytes that are not UTF-8: U+FFFD is scored in their place; convert "
            "the input, or refuse such documents with on_invalid_utf8=error",
            replaced,
        )
    loaded, tokenizer = load_model(
        model,
        implementation=options.implementation,
        dtype=options.dtype,
        device=options.device,
        revision=options.revision,
    )
    return evaluate_perplexity(
        loaded,
        tokenizer,
        documents,
        context_length=options.context_length,
        stride=options.stride,
        batch_size=options.batch_size,
        bos=options.bos,
    )
