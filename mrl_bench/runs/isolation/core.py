"""A core for the harness and the agent's process, which take turns at the steps of an episode.

Only one of them computes at a time, so sharing a core costs nothing. On two, each falls asleep in every step, and what
it had cached is gone when it wakes up: an evaluation takes a third longer (`benchmarks/isolation_cost.py`).
"""

from __future__ import annotations

import ctypes
import os
import socket
from contextlib import suppress
from dataclasses import dataclass

# A name that one process at a time can have, and that is free again when it ends, however it does: of a Unix socket in
# the abstract namespace.
NAME = "\0mrl-bench-core-"


@dataclass(frozen=True)
class Core:
    """A core that this process has claimed, and stays on. No other one can claim it until this process ends."""

    number: int
    _claim: socket.socket
    _usual: frozenset[int]

    def release(self) -> None:
        """Lets others claim it; this process may use its usual cores again."""
        self._claim.close()
        with suppress(OSError):
            os.sched_setaffinity(0, self._usual)


def claim() -> Core | None:
    """Claims a core that no isolated agent has, and stays on it. None if there is none, or not on this system."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    usual = frozenset(os.sched_getaffinity(0))
    here = ctypes.CDLL(None).sched_getcpu()
    for number in sorted(usual, key=lambda number: (number != here, number)):
        claimed = socket.socket(socket.AF_UNIX)
        try:
            claimed.bind(f"{NAME}{number}")
            stay(number)
        except OSError:
            claimed.close()
        else:
            return Core(number, claimed, usual)
    return None


def stay(number: int) -> None:
    """Keeps this process on a core. Raises: OSError."""
    os.sched_setaffinity(0, {number})
