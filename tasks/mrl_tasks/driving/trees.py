"""Named tuples of arrays, in one another. Numbers and None are leaves that stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mrl_tasks.driving.vehicle import Array


def each(function: Callable[..., Array], tree: Any, *more: Any) -> Any:
    """The same tree of what `function` makes of its arrays, together with those at the same place of others."""
    if isinstance(tree, tuple):
        return type(tree)(*(each(function, *leaves) for leaves in zip(tree, *more, strict=True)))
    return function(tree, *more) if hasattr(tree, "shape") else tree


def one(tree: Any, slot: int) -> Any:
    """A slot's part of a tree of numpy arrays (N,) or (K, N): Python's numbers, or lists of K."""
    return each(lambda leaf: leaf[..., slot].tolist(), tree)
