"""Byte streams: files and stdin, decompressed, as UTF-8, and cut into lines with positions."""

import bz2
import codecs
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from ragkit.errors import DataError, MissingDependencyError

COMPRESSED = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".zst": b"\x28\xb5\x2f\xfd"}
"""First bytes by suffix."""

_BLOCK_BYTES = 1 << 16
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a stream.

    Args:
        number: Counted from 1.
        offset: Bytes of the (decompressed) stream before the line.
        data: The line with its end; only its head if `too_long`.
    """

    number: int
    offset: int
    data: bytes
    too_long: bool = False


@contextmanager
def open_stream(path: Path | None) -> Iterator[BinaryIO]:
    """The decompressed bytes of `path`, or of stdin for `None`.

    Raises:
        DataError: The file cannot be opened; reading raises it where the compressed data is
            broken or cut, with the offset.
    """
    name = str(path or "stdin")
    if path is None:
        stdin: Any = sys.stdin.buffer  # programs and tests may put another stream there
        buffered = stdin if isinstance(stdin, io.BufferedReader) else io.BufferedReader(stdin)
        yield _inflate(buffered, name)
        return
    try:
        raw = path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error
    with raw:
        yield _inflate(raw, name)


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file that the system does not let us read."""
    return DataError(
        f"{path} cannot be read ({error.strerror or error}): check the path and its permissions"
    )


def as_utf8(stream: BinaryIO) -> BinaryIO:
    """`stream` without its byte order mark, and in UTF-8 if the mark says that it is UTF-16."""
    buffered = cast(io.BufferedReader, stream)
    head = buffered.peek(3)[:3]
    if head == codecs.BOM_UTF8:
        buffered.read(3)
    elif head[:2] in _UTF16:
        buffered.read(2)
        return cast(BinaryIO, io.BufferedReader(_Recoded(buffered, _UTF16[head[:2]])))
    return stream


def read_lines(stream: BinaryIO, *, max_bytes: int) -> Iterator[Line]:
    """The lines of `stream`; of a line of more than `max_bytes` only the head is kept."""
    number, offset = 0, 0
    while data := stream.readline(max_bytes + 1):
        number += 1
        too_long = len(data) > max_bytes and not data.endswith(b"\n")
        yield Line(number, offset, data, too_long)
        offset += len(data)
        while too_long and (rest := stream.readline(_BLOCK_BYTES)):
            offset += len(rest)
            too_long = not rest.endswith(b"\n")


class _Inflater(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _inflate(raw: io.BufferedReader, name: str) -> BinaryIO:
    suffix = next((s for s in COMPRESSED if name.endswith(s)), "")
    head = raw.peek(4)[:4]
    by_head = next((s for s, magic in COMPRESSED.items() if head.startswith(magic)), "")
    if suffix and suffix != by_head:
        raise DataError(
            f"{name}: expected a {suffix} file, found first bytes {head!r}: it is broken, or "
            "has the wrong name"
        )
    if not by_head:
        return raw
    return io.BufferedReader(_Inflated(raw, name, _inflater(by_head)), _BLOCK_BYTES)


def _inflater(suffix: str) -> Callable[[], _Inflater]:
    if suffix == ".gz":
        return lambda: zlib.decompressobj(wbits=31)
    if suffix == ".bz2":
        return bz2.BZ2Decompressor
    try:
        import zstandard
    except ImportError as error:
        raise MissingDependencyError(
            "reading .zst needs zstandard: run `pip install 'ragkit[files]'`"
        ) from error
    return lambda: zstandard.ZstdDecompressor().decompressobj()


def _inflater_errors() -> tuple[type[Exception], ...]:
    zstandard = sys.modules.get("zstandard")
    zstd_error = (zstandard.ZstdError,) if zstandard else ()
    return (zlib.error, OSError, EOFError, ValueError, *zstd_error)


class _Inflated(io.RawIOBase):
    """Decompresses one or more members, one after the other.

    The readers of gzip, bz2 and zstandard differ in what they do with a cut file (zstandard's ends
    as if all were well), so that this one asks the decompressor itself whether it saw the end.
    """

    def __init__(self, raw: BinaryIO, name: str, new: Callable[[], _Inflater]) -> None:
        self._raw, self._name, self._new = raw, name, new
        self._inflater = new()
        self._started = False
        self._ready = b""
        self._num_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready and self._advance():
            pass
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _advance(self) -> bool:
        """Decompress one more block; False at the end."""
        data = self._inflater.unused_data if self._inflater.eof else b""
        data = data or self._raw.read(_BLOCK_BYTES)
        if not data:
            self._check_complete()
            return False
        if self._inflater.eof:
            data = data.lstrip(b"\0")  # gzip files on tape are padded with zeros
            self._inflater, self._started = self._new(), False
        if data:
            self._started = True
            self._ready = self._decompress(data)
        return True

    def _decompress(self, data: bytes) -> bytes:
        try:
            inflated = self._inflater.decompress(data)
        except _inflater_errors() as error:
            raise DataError(
                f"{self._name}: the compressed data breaks after {self._num_read} bytes of content "
                f"({error}): make or fetch the file again"
            ) from error
        self._num_read += len(inflated)
        return inflated

    def _check_complete(self) -> None:
        if self._started and not self._inflater.eof:
            raise DataError(
                f"{self._name}: the compressed data is cut after {self._num_read} bytes of content "
                "and has no end: fetch the file again"
            )


class _Recoded(io.RawIOBase):
    """UTF-16 as UTF-8; what cannot be decoded becomes bytes that are not UTF-8 either."""

    def __init__(self, raw: BinaryIO, encoding: str) -> None:
        self._raw = raw
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
        self._ready = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready and not self._ended:
            data = self._raw.read(_BLOCK_BYTES)
            self._ended = not data
            self._ready = self._recode(data)
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _recode(self, data: bytes) -> bytes:
        try:
            text = self._decoder.decode(data, final=not data)
        except UnicodeDecodeError:
            text = "\udcff"  # the file ends within a character
        return text.encode("utf-8", "surrogatepass")
