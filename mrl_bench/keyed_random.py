"""Random numbers that are a pure function of their address.

A draw depends on a key and on its own index along each axis, and on nothing else: not on the batch it is drawn in,
not on the device, not on what was drawn before, and not on the version of torch. So task 17 is the same task in
a batch of 20 and in a batch of 80, and an episode starts in the same state whoever plays it.

The generator is the finaliser of SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number
generators"), applied along a tree: one level an axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Axis = int | Sequence[int] | NDArray[np.integer]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def seed_of(*key: str | int) -> int:
    """A 63-bit seed for a generator of someone else's, as a function of a name."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def uniforms(key: Sequence[str | int], *axes: Axis) -> NDArray[np.float64]:
    """Uniform draws in (0, 1), one for each point of the grid that the axes span.

    Args:
        key: names the stream, as `("reset", 7)`.
        axes: for each axis its length, or the indices that are wanted of it.

    Returns:
        float64, shape (len(axis_0), len(axis_1), ...). Element [i, j, ...] depends on the key and on the indices
        at i, j, ... alone, so a longer axis begins with the values of a shorter one.
    """
    bits = np.array(seed_of(*key), dtype=np.uint64)
    for axis in axes:
        index = np.arange(axis) if isinstance(axis, int) else np.asarray(axis)
        with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is the point
            bits = _mix(bits[..., None] + (index.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    return ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52  # one bit less would round up to 1


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
