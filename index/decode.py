"""Turns stored vectors (`f16`, `i8`) into fp32 values, exactly.

numpy converts fp16 three times slower than a compiled loop does, but the compiler costs most of a
second to start. So a process begins with numpy and changes over once it has decoded so much
that compiling pays; both give the same bits.
"""

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

COMPILE_AFTER_VALUES = 1 << 27
"""About a quarter of a second of numpy's fp16 conversion."""

Kernel = Callable[[NDArray[np.uint16], NDArray[np.float32]], None]

_decoded_values = 0


def decode(
    stored: NDArray[np.generic],
    scale: NDArray[np.float32] | None = None,
    *,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """The values of `stored`, `[rows, dim]`; `stored` itself if it is fp32 without a scale.

    Args:
        scale: `[dim]` factors of `i8` codes.
        out: Where the values go, unless they are `stored` itself.
    """
    stored = np.asarray(stored)
    if stored.dtype == np.float32 and scale is None:
        return stored.astype(np.float32, copy=False)
    values = np.empty(stored.shape, np.float32) if out is None else out
    if stored.dtype == np.float16 and stored.flags.c_contiguous and _compiling_pays(stored.size):
        half_kernel()(stored.view(np.uint16).reshape(-1), values.reshape(-1))
    else:
        np.copyto(values, stored)
    if scale is not None:
        np.multiply(values, scale, out=values)
    return values


@functools.cache
def half_kernel() -> Kernel:
    """A compiled loop that widens fp16 bits `[values]` into fp32 `[values]`."""
    import numba

    widen_one = numba.njit(inline="always")(widening())

    def widen(bits: NDArray[np.uint16], values: NDArray[np.float32]) -> None:
        for i in range(bits.size):
            values[i] = widen_one(bits[i])

    return numba.njit(nogil=True)(widen)


def widening(*, finite: bool = False) -> Callable[[np.uint16], np.float32]:
    """A function from the bits of an fp16 number to its fp32 value, for a loop to be compiled.

    Args:
        finite: There are no infinities and no NaN, which take half of the time.
    """
    # Shifted bits are the value times 2**-112, also where fp16 is subnormal. Infinity and NaN
    # have the largest exponent, which the product cannot restore: its missing bits are set.
    restore, missing = np.float32(2.0**112), np.uint32(0x70000000)
    infinity = np.uint32(0xFFFFFFFF if finite else 0x0F800000)  # out of reach, so never compared
    sign_bit, magnitude_bits = np.uint32(0x8000), np.uint32(0x7FFF)
    to_sign, to_magnitude = np.uint32(16), np.uint32(13)

    def widen(bits: np.uint16) -> np.float32:
        half = np.uint32(bits)
        magnitude = (half & magnitude_bits) << to_magnitude
        special = missing if magnitude >= infinity else np.uint32(0)
        wide = np.uint32(((half & sign_bit) << to_sign) | magnitude | special)
        return wide.view(np.float32) * restore

    return widen


def _compiling_pays(num_values: int) -> bool:
    global _decoded_values
    # Two threads may lose an update of each other: that only puts the change-over off.
    _decoded_values += num_values
    return _decoded_values >= COMPILE_AFTER_VALUES
