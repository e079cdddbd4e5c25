"""Decoding: one loop from the logits of any causal language model to tokens and text."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragkit.decoding.api import TextStream, generate, generate_tokens, stream
    from ragkit.decoding.batching import Generation
    from ragkit.decoding.options import GenerationOptions

__all__ = [
    "Generation",
    "GenerationOptions",
    "TextStream",
    "generate",
    "generate_tokens",
    "stream",
]

_HOMES = {
    "Generation": "ragkit.decoding.batching",
    "GenerationOptions": "ragkit.decoding.options",
    "TextStream": "ragkit.decoding.api",
    "generate": "ragkit.decoding.api",
    "generate_tokens": "ragkit.decoding.api",
    "stream": "ragkit.decoding.api",
}


def __getattr__(name: str) -> object:
    """The public names, imported when first used: a recipe needs the options, but no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ragkit.decoding' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
