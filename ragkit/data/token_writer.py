"""Makes token stores from corpora: read once, encode in batches, publish whole or not at all."""

import dataclasses
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from ragkit.console import progress
from ragkit.data.document_encoder import DocumentEncoder, Window, batches
from ragkit.data.inputs import STDIN
from ragkit.data.options import ReadOptions
from ragkit.data.readers import DEFAULT_OPTIONS, read_documents
from ragkit.data.rejects import Rejects
from ragkit.data.sources import sources
from ragkit.data.token_store import (
    FACTS,
    FORMAT,
    HASHES,
    NUM_BYTES,
    OFFSETS,
    TOKENS,
    TokenStore,
)
from ragkit.errors import ConfigError, DataError
from ragkit.storage import hash_file, published_folder
from ragkit.types import Document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def tokenize_corpus(
    inputs: Sequence[str],
    out: Path,
    *,
    tokenizer: "PreTrainedTokenizerBase",
    options: ReadOptions = DEFAULT_OPTIONS,
    append_eos: bool = True,
    prepend_bos: bool = False,
    max_rejects: str = "1%",
) -> TokenStore:
    """The token store at `out`: the one that is there if it was made from the same, else a new one.

    The same are the files (by content), the read options, the tokenizer and the special tokens. A
    store made from anything else is replaced. Memory does not grow with the corpus, but for 24
    bytes a document. One process at a time may write to `out`.

    Args:
        inputs: As `read_documents` takes them, without stdin.
        max_rejects: How many rows may be refused, or which share.

    Raises:
        ConfigError: An argument makes no sense, or `out` holds something that is no token store.
        DataError: The corpus cannot be read or holds no document, or the store at `out` is damaged.
        StorageError: The disk gave out.
    """
    if STDIN in inputs:
        raise ConfigError("a token store is made from files, got stdin (-): write it to a file")
    encoder = DocumentEncoder(tokenizer, append_eos=append_eos, prepend_bos=prepend_bos)
    made_from = _made_from(inputs, options, encoder)
    found = _open_existing(out)
    if found is not None and found.made_from == made_from:
        found.verify()
        return found
    with published_folder(out) as folder, Rejects() as rejects:
        documents = read_documents(inputs, options=options, rejects=rejects)
        facts = _StoreWriter(folder, encoder).write(documents)
        rejects.check(facts["num_documents"] + rejects.refused, max_rejects)
        if not facts["num_tokens"]:
            raise DataError(f"{', '.join(inputs)}: no document with text: give a corpus that has")
        _write_facts(folder, {**facts, "made_from": made_from})
    return TokenStore(out)


def _made_from(
    inputs: Sequence[str], options: ReadOptions, encoder: DocumentEncoder
) -> dict[str, Any]:
    files = [
        {"name": Path(source["uri"]).name, "bytes": source["bytes"], "xxh3": source["xxh3"]}
        for source in sources(inputs, options=options)
    ]
    made_from = {
        "tokenizer": encoder.fingerprint,
        "options": dataclasses.asdict(options),
        "files": files,
    }
    return json.loads(json.dumps(made_from))  # as it will be read back


def _open_existing(out: Path) -> TokenStore | None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / FACTS).is_file():
        raise ConfigError(
            f"{out} exists and is no token store: choose another place, or remove it if it is not "
            "needed"
        )
    return TokenStore(out)


class _StoreWriter:
    """Appends documents to the arrays of one store."""

    def __init__(self, folder: Path, encoder: DocumentEncoder) -> None:
        self._folder, self._encoder = folder, encoder
        self._dtype = np.dtype("<u2" if encoder.vocab_size <= 1 << 16 else "<u4")
        self._offsets, self._num_bytes, self._hashes = array("q", [0]), array("q"), array("Q")
        self._num_tokens = 0

    def write(self, documents: Iterable[Document]) -> dict[str, Any]:
        """Write all arrays; what `store.json` says of them."""
        with (
            (self._folder / TOKENS).open("wb") as file,
            progress("Tokenising documents") as bar,
        ):
            for batch in batches(self._windows(documents)):
                file.write(self._encode(batch).data)
                num_ended = sum(window.ends for window in batch)
                bar.advance(num_ended, tokens=self._num_tokens)
        np.save(self._folder / OFFSETS, np.asarray(self._offsets, np.int64))
        np.save(self._folder / NUM_BYTES, np.asarray(self._num_bytes, np.int64))
        np.save(self._folder / HASHES, np.asarray(self._hashes, np.uint64))
        return {
            "format": FORMAT,
            "dtype": self._dtype.name,
            "vocab_size": self._encoder.vocab_size,
            "num_documents": len(self._num_bytes),
            "num_tokens": self._num_tokens,
            "num_bytes": sum(self._num_bytes),
        }

    def _windows(self, documents: Iterable[Document]) -> Iterator[Window]:
        """The documents' texts to encode; notes size and hash of each as it passes."""
        for document in documents:
            text = document.text.encode("utf-8")
            self._num_bytes.append(len(text))
            self._hashes.append(xxhash.xxh3_64_intdigest(text))
            yield from self._encoder.windows(document.text)

    def _encode(self, batch: Sequence[Window]) -> NDArray[Any]:
        """The ids of a batch as they are stored; notes where documents end."""
        ids, lengths = self._encoder.encode(batch)
        ends = self._num_tokens + np.cumsum(lengths)
        self._offsets.extend(ends[[window.ends for window in batch]].tolist())
        self._num_tokens += len(ids)
        return ids.astype(self._dtype)


def _write_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Write `store.json`, with size and checksum of each file that is there."""
    files = {
        path.name: {"size_bytes": path.stat().st_size, "xxh3": hash_file(path)}
        for path in sorted(folder.iterdir())
    }
    content = json.dumps({**facts, "files": files}, indent=1)
    (folder / FACTS).write_text(content + "\n", encoding="utf-8")
