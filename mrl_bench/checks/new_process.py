"""A family or an agent in a new interpreter, as a worker or the command line would see it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields, is_dataclass
from typing import Any, cast

from mrl_bench.errors import ContractError
from mrl_bench.family import TaskFamily

SECONDS = 300  # that a new interpreter may take


def options(family: TaskFamily) -> dict[str, Any]:
    """The options of a family, name -> value; none if it is no dataclass."""
    if not is_dataclass(family):
        return {}
    return {field.name: getattr(family, field.name) for field in fields(cast(Any, family))}


def can_import(kind: type) -> bool:
    """Whether a class can be found by its name in another process."""
    return (
        kind.__module__ != "__main__"
        and getattr(sys.modules[kind.__module__], kind.__qualname__, None) is kind
    )


def run(family: TaskFamily, *statements: str) -> list[str]:
    """Runs statements in a new interpreter, where `family` is this family.

    Returns:
        The words that they print.

    Raises:
        ContractError: the family cannot be imported there, or the statements fail or do not end.
    """
    kind = type(family)
    lines = (
        f"from {kind.__module__} import {kind.__qualname__} as Family",
        f"family = Family(**{options(family)!r})",
        *statements,
    )
    return execute(*lines)


def execute(*lines: str) -> list[str]:
    """Executes code in a new interpreter with the import path of this one.

    Returns:
        The words that it prints.

    Raises:
        ContractError: it fails, or does not end.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", "\n".join(lines)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ContractError(f"in a new interpreter: not finished after {SECONDS} s") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ContractError(f"in a new interpreter: {reason}")
    return done.stdout.split()
