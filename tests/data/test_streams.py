import bz2
import gzip
import io

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ragkit.data.streams import as_utf8, open_stream, read_lines
from ragkit.errors import DataError

COMPRESS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}
CONTENT = b"".join(b"line %d of a text\n" % number for number in range(20_000))


def read_all(path):
    with open_stream(path) as stream:
        return stream.read()


@pytest.mark.parametrize("suffix", COMPRESS)
def test_members_one_after_the_other_are_decompressed(tmp_path, suffix):
    path = tmp_path / f"corpus{suffix}"
    path.write_bytes(COMPRESS[suffix](CONTENT) + COMPRESS[suffix](b"the end"))

    assert read_all(path) == CONTENT + b"the end"


@pytest.mark.parametrize("suffix", COMPRESS)
def test_first_bytes_tell_of_compression_where_the_name_does_not(tmp_path, suffix):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(COMPRESS[suffix](CONTENT))

    assert read_all(path) == CONTENT


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("kept", [0.5, 0.999])
def test_a_cut_file_is_an_error_that_says_where(tmp_path, suffix, kept):
    compressed = COMPRESS[suffix](CONTENT)
    path = tmp_path / f"corpus{suffix}"
    path.write_bytes(compressed[: int(len(compressed) * kept)])

    with pytest.raises(DataError, match=r"corpus.*cut after \d+ bytes.*fetch the file again"):
        read_all(path)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_second_member_that_is_cut_is_an_error(tmp_path, suffix):
    compressed = COMPRESS[suffix](CONTENT)
    path = tmp_path / f"corpus{suffix}"
    path.write_bytes(compressed + compressed[:-3])

    with pytest.raises(DataError, match="fetch the file again"):
        read_all(path)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_bytes_after_the_end_are_an_error(tmp_path, suffix):
    path = tmp_path / f"corpus{suffix}"
    path.write_bytes(COMPRESS[suffix](CONTENT) + b"something else, not compressed")

    with pytest.raises(DataError, match=r"breaks after \d+ bytes"):
        read_all(path)


def test_zeros_after_the_end_of_gzip_are_padding(tmp_path):
    path = tmp_path / "corpus.gz"
    path.write_bytes(gzip.compress(b"text") + bytes(700))

    assert read_all(path) == b"text"


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("data", [b"", b"plain text"])
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, suffix, data):
    path = tmp_path / f"corpus{suffix}"
    path.write_bytes(data)

    with pytest.raises(DataError, match="has the wrong name"):
        read_all(path)


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.txt cannot be read .*check the path"):
        read_all(tmp_path / "gone.txt")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_a_byte_order_mark_decides_the_encoding(encoding):
    text = "caf\u00e9 \U0001f600\n" * 40_000
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""

    stream = as_utf8(io.BufferedReader(io.BytesIO(mark + text.encode(encoding))))

    assert stream.read().decode("utf-8") == text


def test_utf16_that_ends_within_a_character_is_not_utf8_afterwards():
    stream = as_utf8(io.BufferedReader(io.BytesIO("ab".encode("utf-16")[:-1])))

    assert stream.read().decode("utf-8", "replace").rstrip("\ufffd") == "a"


@given(data=st.binary(max_size=60), max_bytes=st.integers(1, 9))
def test_lines_know_where_they_stand(data, max_bytes):
    lines = list(read_lines(io.BytesIO(data), max_bytes=max_bytes))

    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert len(lines) == len(data.splitlines(keepends=True) if b"\r" not in data else lines)
    for line in lines:
        assert data[line.offset :].startswith(line.data)
        assert line.too_long == (len(line.data) > max_bytes and not line.data.endswith(b"\n"))
