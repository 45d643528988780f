"""Named tuples of arrays, in one another. Numbers and None are leaves that stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mrl_tasks.driving.vehicle import Array


def each(function: Callable[..., Array], tree: Any, *more: Any) -> Any:
    """Applies `function` to the arrays at the same place of each tree; returns the tree of its results."""
    if isinstance(tree, tuple):
        return type(tree)(*(each(function, *leaves) for leaves in zip(tree, *more, strict=True)))
    return function(tree, *more) if hasattr(tree, "shape") else tree


def one(tree: Any, instance: int) -> Any:
    """One instance of a tree of numpy arrays (N,) or (K, N), as Python numbers, or lists of K."""
    return each(lambda leaf: leaf[..., instance].tolist(), tree)
