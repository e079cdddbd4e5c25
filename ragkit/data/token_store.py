"""A tokenised corpus on disk: token ids of all documents in one memory-mapped array.

A store is a folder: `tokens.bin` (little-endian uint16 or uint32, document after document),
`offsets.npy`, `num_bytes.npy` and `hashes.npy` (one entry per document), and `store.json` with the
counts, the checksums and what the store was made from. Imports no torch.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import ConfigError, DataError
from ragkit.storage import hash_file

FORMAT = "ragkit-tokens-1"
TOKENS, OFFSETS, NUM_BYTES, HASHES = "tokens.bin", "offsets.npy", "num_bytes.npy", "hashes.npy"
FACTS = "store.json"


class Split(NamedTuple):
    """The documents of a store in two parts, each `[docs]` in ascending order."""

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]


class TokenStore:
    """The documents of a corpus as token ids; made by `tokenize_corpus`, opened by its folder.

    Pickling carries the folder's name alone: the copy maps the files again.

    Args:
        folder: Holds the files of one store.

    Raises:
        DataError: A file is missing, truncated or contradicts `store.json`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._facts = _read_facts(folder)
        for name, file in self._facts["files"].items():
            _require_size(folder / name, file["size_bytes"])
        num_documents, num_tokens = self._facts["num_documents"], self._facts["num_tokens"]
        dtype = np.dtype(self._facts["dtype"]).newbyteorder("<")
        mapped = np.memmap(folder / TOKENS, dtype, mode="r", shape=(num_tokens,))
        self.tokens: NDArray[Any] = mapped.view(np.ndarray)
        """Ids of all documents, `[tokens]`."""
        self.offsets: NDArray[np.int64] = _read_array(folder / OFFSETS, num_documents + 1)
        """Document `i` has the tokens `offsets[i]:offsets[i + 1]`, `[docs + 1]`."""
        self.num_bytes: NDArray[np.int64] = _read_array(folder / NUM_BYTES, num_documents)
        """UTF-8 bytes of each document's text, `[docs]`: the measure of bits per byte."""
        self._hashes = _read_array(folder / HASHES, num_documents)
        if self.offsets[-1] != num_tokens:
            raise damaged(folder / OFFSETS, f"ends at {self.offsets[-1]} of {num_tokens} tokens")

    def __reduce__(self) -> tuple[Callable[[Path], "TokenStore"], tuple[Path]]:
        return TokenStore, (self.folder,)

    def __len__(self) -> int:
        """Number of documents."""
        return int(self._facts["num_documents"])

    @property
    def vocab_size(self) -> int:
        """One more than the largest id that the tokenizer can give."""
        return int(self._facts["vocab_size"])

    @property
    def made_from(self) -> dict[str, Any]:
        """The tokenizer's hash, the options and the files with their hashes, as JSON values."""
        return dict(self._facts["made_from"])

    def document(self, number: int) -> NDArray[np.int64]:
        """The token ids of one document, `[tokens]`.

        Raises:
            IndexError: There is no such document.
        """
        place = range(len(self))[number]
        return self.tokens[self.offsets[place] : self.offsets[place + 1]].astype(np.int64)

    def split(self, held_out_share: float) -> Split:
        """The documents to train on and those held out, told apart by a hash of their text.

        The choice does not depend on the order of the documents, and documents of equal text are
        on the same side. At least one document is held out.

        Args:
            held_out_share: Of the documents, between 0 and 1.

        Raises:
            ConfigError: The share is out of range, or leaves nothing to train on.
        """
        if not 0 < held_out_share < 1:
            raise ConfigError(
                f"held_out_share must lie between 0 and 1, got {held_out_share}: write 0.01"
            )
        count = max(1, round(held_out_share * len(self)))
        chosen = self._hashes <= np.sort(self._hashes)[count - 1]
        if chosen.all():
            raise ConfigError(
                f"holding out {count} of {len(self)} documents leaves none to train on: lower "
                "held_out_share or give more documents that differ"
            )
        return Split(np.flatnonzero(~chosen), np.flatnonzero(chosen))

    def verify(self) -> None:
        """Pass if every file has the checksum it was written with.

        Raises:
            DataError: A file was altered.
        """
        for name, file in self._facts["files"].items():
            if hash_file(self.folder / name) != file["xxh3"]:
                raise damaged(self.folder / name, "has another checksum than when it was written")


def damaged(path: Path, what: str) -> DataError:
    """The error for a store that cannot be trusted."""
    return DataError(
        f"the token store's file {path} {what}: delete the folder {path.parent} and run the same "
        "command again, it is made anew from the corpus"
    )


def _read_facts(folder: Path) -> dict[str, Any]:
    path = folder / FACTS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{folder} is no token store, {FACTS} cannot be read ({error.strerror}): give a folder "
            "that tokenize_corpus made"
        ) from error
    except ValueError as error:
        raise damaged(path, f"is not JSON ({error})") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise damaged(path, f"does not say format {FORMAT!r}")
    return facts


def _require_size(path: Path, expected: int) -> None:
    found = path.stat().st_size if path.is_file() else None
    if found != expected:
        state = "is missing" if found is None else f"has {found} of {expected} bytes"
        raise damaged(path, state)


def _read_array(path: Path, expected: int) -> NDArray[Any]:
    """The array at `path`, mapped; it must have `expected` entries."""
    try:
        array = np.load(path, mmap_mode="r")
    except ValueError as error:
        raise damaged(path, f"is no numpy array ({error})") from error
    if array.shape != (expected,):
        raise damaged(path, f"has the shape {array.shape}, expected ({expected},)")
    return array.view(np.ndarray)
