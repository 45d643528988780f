"""A namespace like numpy's, of what `vehicle.py` needs, over Python's own numbers: for few cars they are several times
as fast as arrays.

Results are those of numpy to the last bit. Only a division by zero and the root of a negative number raise.
"""

from __future__ import annotations

from builtins import abs  # noqa: F401
from math import sqrt  # noqa: F401

import numpy as np


def minimum(a: float, b: float) -> float:
    return a if a < b or a != a else b  # NaN wins


def maximum(a: float, b: float) -> float:
    return a if a > b or a != a else b


def where(condition: bool, a: float, b: float) -> float:
    return a if condition else b


def tan(angle: float) -> float:
    """Numpy's, because that of the C library differs in the last bit."""
    return float(np.tan(angle))
