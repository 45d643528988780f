"""Actuator delays of many environment instances, for arrays of numpy and tensors of torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = Any  # of numpy, or a tensor


class DelayLine:
    """Delays the commands of N rows, each row by its own number of control steps."""

    def __init__(self, delay: NDArray[Any], empty: Array) -> None:
        """The line computes where `empty` is, in its dtype.

        Args:
            delay: control steps of each row, whole numbers, (N,).
            empty: zeros, (N, ...). They arrive until the first command does.
        """
        xp: Any = torch if isinstance(empty, Tensor) else np
        self._sent = xp.stack([empty] * (int(delay.max()) + 1))  # (D + 1, N, ...), a ring buffer
        self._delay = xp.asarray(delay.astype(int), device=empty.device)
        self._rows = xp.arange(len(empty), device=empty.device)
        self._t = 0

    def reset(self) -> None:
        """Drops the commands that have not arrived."""
        self._sent[:] = 0.0
        self._t = 0

    def send(self, command: Array) -> Array:
        """Sends a command, (N, ...), and returns what arrives in this control step, (N, ...)."""
        length = len(self._sent)
        if length == 1:
            return command
        self._sent[self._t % length] = command
        arriving = self._sent[(self._t - self._delay) % length, self._rows]
        self._t += 1
        return arriving
