"""Counter-based random numbers: each is a pure function of a key and of its indices.

A number does not depend on the size of the batch, the device, earlier draws or the version of torch. So task 17 is
the same in a batch of 20 and in a batch of 80, and an episode has the same initial state for every agent.

The generator applies the finaliser of SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number
generators") once per axis, to the bits of the axis before.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Axis = int | Sequence[int] | NDArray[np.integer]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def seed_of(*key: str | int) -> int:
    """A 63-bit seed, as a function of a key. Use it to seed other generators, such as torch's."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def uniforms(key: Sequence[str | int], *axes: Axis) -> NDArray[np.float64]:
    """Uniform random numbers in (0, 1), one for each point of the grid that the axes span.

    Args:
        key: identifies the random stream, as `("reset", 7)`.
        axes: for each axis its length n (indices 0, ..., n - 1), or the indices to draw.

    Returns:
        float64, shape (len(axis_0), len(axis_1), ...). Element [i, j, ...] depends only on the key and on the
        indices at i, j, ..., so a longer axis begins with the values of a shorter one.
    """
    bits = np.array(seed_of(*key), dtype=np.uint64)
    for axis in axes:
        index = np.arange(axis) if isinstance(axis, int) else np.asarray(axis)
        with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is intended
            bits = _mix(bits[..., None] + (index.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    # 52 bits: with 53, the largest number would round up to 1.
    return ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
