"""From files to passages: readers and chunkers. Imports no torch."""

from ragkit.data.chunking import chunk_document, default_chunker, parse_chunker, split_long
from ragkit.data.options import ReadOptions
from ragkit.data.readers import read_documents
from ragkit.data.rejects import Rejects
from ragkit.data.sentences import split_sentences
from ragkit.data.sources import Source, sources
from ragkit.data.spans import Chunker, TokenCounter

__all__ = [
    "Chunker",
    "ReadOptions",
    "Rejects",
    "Source",
    "TokenCounter",
    "chunk_document",
    "default_chunker",
    "parse_chunker",
    "read_documents",
    "sources",
    "split_long",
    "split_sentences",
]
