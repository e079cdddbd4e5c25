"""A recipe that builds an index of a judged collection and measures how well it is searched."""

from pathlib import Path
from typing import Literal

from ragkit.config import config, data_folder
from ragkit.evaluation.judgements import read_qrels, read_queries
from ragkit.evaluation.retrieval import RetrievalReport, evaluate_index
from ragkit.retrieval.build import load_build_encoder, run_build
from ragkit.retrieval.options import BuildOptions
from ragkit.retrieval.retriever import Retriever


@config
class RetrievalRecipe:
    """Which collection, how it is indexed, and where the index goes."""

    kind: Literal["retrieval"]
    data_dir: str = ""
    """Folder of the data sets; `RAGKIT_DATA`, or `data`, if empty."""
    inputs: tuple[str, ...]
    """Files of documents, below `data_dir`."""
    queries: str
    qrels: str
    out: str
    """The index folder; an index that is there already, built the same way, is used as it is."""
    build: BuildOptions = BuildOptions()


def run_retrieval(recipe: RetrievalRecipe) -> RetrievalReport:
    """Build the index, unless it is there, and measure it.

    Raises:
        DataError: A file of the collection is missing or malformed.
        IndexStateError: `out` holds an index of something else.
    """
    data = data_folder(recipe.data_dir)
    queries, qrels = read_queries(data / recipe.queries), read_qrels(data / recipe.qrels)
    encoder = load_build_encoder(recipe.build)
    inputs = [str(data / name) for name in recipe.inputs]
    run_build(inputs, Path(recipe.out), recipe.build, encoder=encoder)
    with Retriever.open(recipe.out, encoder=encoder) as retriever:
        return evaluate_index(retriever, queries, qrels)
