"""Decoding: one loop from the logits of any causal language model to tokens and text."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragkit.decoding.generation import TextStream, generate, generate_tokens, stream
    from ragkit.decoding.generator import Generation
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
    "Generation": "ragkit.decoding.generator",
    "GenerationOptions": "ragkit.decoding.options",
    "TextStream": "ragkit.decoding.generation",
    "generate": "ragkit.decoding.generation",
    "generate_tokens": "ragkit.decoding.generation",
    "stream": "ragkit.decoding.generation",
}


def __getattr__(name: str) -> object:
    """The public names, imported when first used: a recipe needs the options, but no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ragkit.decoding' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
