"""Validation of task parameters, shared by all families."""

from __future__ import annotations

from collections.abc import Mapping

from mrl_bench.errors import UsageError
from mrl_bench.family import Param
from mrl_bench.types import TaskBatch


def require_listed_values(params: Mapping[str, Param], tasks: TaskBatch) -> None:
    """Raises UsageError if a parameter with listed values has another value in some task."""
    for name, param in params.items():
        if param.values and not set(tasks.column(name).tolist()) <= set(param.values):
            raise UsageError(f"{name} must be one of {param.values}")
