"""Retrieval-augmented language models: build an index, search it, train with it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragkit.models.loading import load_model
    from ragkit.rag.pipeline import RagPipeline
    from ragkit.retrieval.build import build_index
    from ragkit.retrieval.retriever import Retriever

__version__ = "0.1.0"
__all__ = ["RagPipeline", "Retriever", "build_index", "load_model"]

_HOMES = {
    "build_index": "ragkit.retrieval.build",
    "load_model": "ragkit.models.loading",
    "RagPipeline": "ragkit.rag.pipeline",
    "Retriever": "ragkit.retrieval.retriever",
}


def __getattr__(name: str) -> object:
    """The public names, imported when first used: `import ragkit` alone stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ragkit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
