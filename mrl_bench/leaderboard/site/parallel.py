"""Work for all cores of a machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

from mrl_bench.runs.provenance import cores

T = TypeVar("T")


def for_each(items: Sequence[T], work: Callable[[T], None]) -> None:
    """Calls `work` on all items, in a process for each core. What it changes in memory is lost.

    If a process fails, this one repeats its share, and so raises what was raised there.
    """
    processes = cores()
    own, *others = (items[i::processes] for i in range(processes))
    children = [_fork(share, work) for share in others]
    try:
        for item in own:
            work(item)
    finally:
        failed = [os.waitpid(child, 0)[1] != 0 for child in children]
    for share, again in zip(others, failed, strict=True):
        for item in share if again else ():
            work(item)


def _fork(items: Sequence[T], work: Callable[[T], None]) -> int:
    """The id of a process that calls `work` on items; it exits with 0 if that succeeds."""
    if child := os.fork():
        return child
    code = 1
    try:
        for item in items:
            work(item)
        code = 0
    finally:
        os._exit(code)
