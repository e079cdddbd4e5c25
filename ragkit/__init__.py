"""Retrieval-augmented language models: build an index, search it, train with it."""

__version__ = "0.1.0"
