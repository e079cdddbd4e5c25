"""From documents to passages of a length that the encoder sees whole, with their tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ragkit.data import chunk_document, default_chunker, parse_chunker, split_long
from ragkit.encoders.base import Encoder
from ragkit.errors import DataError
from ragkit.retrieval.options import BuildOptions
from ragkit.types import Document, Passage

Row = tuple[Passage, NDArray[np.int32]]
"""A passage and its token ids as the encoder will see them."""

Measured = tuple[Passage, NDArray[np.int32], int]
"""The same, and the number of tokens before any were cut off."""


def format_passage(template: str, *, title: str, text: str) -> str:
    """What is embedded of a passage."""
    return template.replace("{title}", title).replace("{text}", text).strip()


class PassageCounter:
    """The encoder's tokenizer, as the chunkers ask for it."""

    def __init__(self, encoder: Encoder, template: str) -> None:
        self._encoder, self._template = encoder, template
        self.max_seq_length = encoder.max_seq_length

    def token_offsets(self, text: str) -> NDArray[np.int32]:
        """First and last character of each token of the bare text, `[tokens, 2]`."""
        return self._encoder.token_offsets(text)

    def count(self, text: str, title: str) -> int:
        """Tokens of the passage as embedded, nothing cut off."""
        formatted = format_passage(self._template, title=title, text=text)
        return int(self._encoder.tokenize([formatted], role="passage").lengths[0])


@dataclass(frozen=True)
class Cutter:
    """Cuts documents and tokenises each passage once.

    Args:
        encoder: `None` if the vectors come from elsewhere: then nothing is counted or cut.
        chunk: A chunker such as `words:100`, or `auto`.
        on_long: What happens to a passage that is longer than the encoder can see.
    """

    encoder: Encoder | None
    template: str
    chunk: str
    on_long: Literal["split", "truncate", "error"]

    def cut(self, documents: Sequence[Document]) -> Iterator[Row]:
        """The passages of the documents, in order.

        Raises:
            DataError: A passage is too long and `on_long` is `error`.
        """
        encoder = self.encoder
        if encoder is None:
            for document in documents:
                for passage in chunk_document(document, parse_chunker("none")):
                    yield passage, np.empty(0, np.int32)
            return
        counter = PassageCounter(encoder, self.template)
        groups = [(document, self._chunk(document, counter)) for document in documents]
        measured = iter(self._tokenize(encoder, [p for _, group in groups for p in group]))
        for document, group in groups:
            rows = [next(measured) for _ in group]
            if any(length > encoder.max_seq_length for _, _, length in rows):
                rows = self._shorten(document, rows, encoder, counter)
            for passage, ids, length in rows:
                limit = encoder.max_seq_length
                yield (
                    replace(passage, num_tokens=min(length, limit), truncated=length > limit),
                    ids,
                )

    def _chunk(self, document: Document, counter: PassageCounter) -> list[Passage]:
        chunk = default_chunker(document) if self.chunk == "auto" else self.chunk
        return chunk_document(document, parse_chunker(chunk), counter=counter)

    def _tokenize(self, encoder: Encoder, passages: Sequence[Passage]) -> list[Measured]:
        texts = [format_passage(self.template, title=p.title, text=p.text) for p in passages]
        tokens = encoder.tokenize(texts, role="passage")
        bounds = zip(tokens.offsets, tokens.offsets[1:], strict=False)
        ids = [tokens.ids[start:stop] for start, stop in bounds]
        return list(zip(passages, ids, tokens.lengths.tolist(), strict=True))

    def _shorten(
        self, document: Document, rows: list[Measured], encoder: Encoder, counter: PassageCounter
    ) -> list[Measured]:
        """The rows of one document, of which at least one is too long, as `on_long` says."""
        limit = encoder.max_seq_length
        if self.on_long == "truncate":
            return rows
        if self.on_long == "error":
            passage, _, length = next(row for row in rows if row[2] > limit)
            raise DataError(
                f"{passage.source or passage.id}: {length} tokens, the encoder sees {limit}: "
                "use --on-long split or truncate, or a smaller --chunk"
            )
        pieces = [
            piece
            for passage, _, length in rows
            for piece in (_split(passage, counter, limit) if length > limit else [passage])
        ]
        numbered = [
            replace(piece, id=f"{document.id}#{chunk}", chunk=chunk)
            for chunk, piece in enumerate(pieces)
        ]
        return self._tokenize(encoder, numbered)


def make_cutter(encoder: Encoder | None, options: BuildOptions) -> Cutter:
    """The cutter that the options describe; ready vectors belong to whole records."""
    if options.embeddings is not None:
        return Cutter(encoder, options.template, "none", "truncate")
    return Cutter(encoder, options.template, options.chunk, options.on_long)


def _split(passage: Passage, counter: PassageCounter, limit: int) -> list[Passage]:
    """Pieces of a passage that fit, with offsets into its document."""
    whole = Document(passage.doc_id, passage.text, passage.title, passage.meta, passage.source)
    return [
        replace(piece, start=piece.start + passage.start, end=piece.end + passage.start)
        for piece in split_long(whole, counter=counter, limit=limit)
    ]
