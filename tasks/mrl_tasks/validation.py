"""Checks of task parameters that every family needs."""

from __future__ import annotations

from collections.abc import Mapping

from mrl_bench.errors import UsageError
from mrl_bench.family import Param
from mrl_bench.types import TaskBatch


def require_listed_values(params: Mapping[str, Param], tasks: TaskBatch) -> None:
    """Checks that each parameter with listed values has one of them in every task.

    Raises:
        UsageError: a task has another value.
    """
    for name, param in params.items():
        if param.values and not set(tasks.column(name).tolist()) <= set(param.values):
            raise UsageError(f"{name} must be one of {param.values}")
