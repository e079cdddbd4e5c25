import numpy as np
import pytest

from ragkit.index import decode as decoding
from ragkit.index.decode import decode, half_kernel

EVERY_HALF = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


def test_compiled_loop_widens_every_fp16_number_as_numpy_does():
    values = np.empty(EVERY_HALF.size, np.float32)

    half_kernel()(EVERY_HALF.view(np.uint16), values)

    np.testing.assert_array_equal(values, EVERY_HALF.astype(np.float32))
    np.testing.assert_array_equal(np.signbit(values), np.signbit(EVERY_HALF))


@pytest.mark.parametrize("compile_after", [0, 1 << 62])
def test_result_does_not_depend_on_what_decodes(compile_after, monkeypatch):
    monkeypatch.setattr(decoding, "COMPILE_AFTER_VALUES", compile_after)
    stored = np.random.default_rng(0).standard_normal((17, 6)).astype(np.float16)
    stored.flags.writeable = False  # as a mapped file is

    np.testing.assert_array_equal(decode(stored), stored.astype(np.float32))


def test_codes_are_scaled_into_the_given_place():
    codes = np.array([[1, -2], [3, 127]], np.int8)
    out = np.empty((2, 2), np.float32)

    values = decode(codes, np.array([0.5, 2.0], np.float32), out=out)

    assert values is out
    assert values.tolist() == [[0.5, -4.0], [1.5, 254.0]]


def test_fp32_is_not_copied():
    stored = np.ones((3, 2), np.float32)

    assert np.shares_memory(decode(stored), stored)
