import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import IndexCorruptError
from ragkit.index.vectors import Vectors, encode


def stored(path, values, dtype, scale=None):
    path.write_bytes(encode(values, dtype, scale).tobytes())
    rows, dim = values.shape
    return Vectors.open(path, rows=rows, dim=dim, dtype=dtype, scale=scale)


@given(rows=st.integers(1, 9), dim=st.integers(1, 7), seed=st.integers(0, 99))
def test_fp32_comes_back_bit_for_bit(tmp_path_factory, rows, dim, seed):
    values = np.random.default_rng(seed).standard_normal((rows, dim), np.float32)

    vectors = stored(tmp_path_factory.mktemp("v") / "f32", values, "f32")

    assert (len(vectors), vectors.dim) == (rows, dim)
    np.testing.assert_array_equal(vectors.read(0, rows), values)
    np.testing.assert_array_equal(np.concatenate([b for _, b in vectors.blocks(2)]), values)


def test_fp16_rounds_to_the_nearest_half(tmp_path):
    values = np.random.default_rng(0).standard_normal((5, 3), np.float32)

    vectors = stored(tmp_path / "f16", values, "f16")

    np.testing.assert_array_equal(vectors.read(0, 5), values.astype(np.float16).astype(np.float32))


def test_int8_is_within_half_a_step(tmp_path):
    values = np.random.default_rng(0).standard_normal((11, 3), np.float32)
    scale = (np.abs(values).max(axis=0) / 127).astype(np.float32)

    vectors = stored(tmp_path / "i8", values, "i8", scale)

    # Half a step, and the rounding of fp32.
    assert (np.abs(vectors.read(0, 11) - values) <= 0.5001 * scale).all()
    np.testing.assert_array_equal(vectors.take(np.array([4, 2])), vectors.read(0, 11)[[4, 2]])


@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_of_another_size_is_never_mapped(tmp_path, change):
    path = tmp_path / "vectors.f32"
    path.write_bytes(b"\0" * (4 * 5 * 3 + change))

    with pytest.raises(IndexCorruptError, match="expected 60 bytes for 5 vectors of 3 x f32"):
        Vectors.open(path, rows=5, dim=3, dtype="f32")


def test_no_rows_need_no_map(tmp_path):
    (tmp_path / "vectors.f32").write_bytes(b"")

    vectors = Vectors.open(tmp_path / "vectors.f32", rows=0, dim=3, dtype="f32")

    assert vectors.read(0, 0).shape == (0, 3)
