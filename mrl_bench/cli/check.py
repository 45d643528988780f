"""`mrl-bench check module:Class`: holds an agent or a family to its contract."""

from __future__ import annotations

import sys

import mrl_bench
from mrl_bench import registry
from mrl_bench.cli.terminal import fail
from mrl_bench.errors import MrlBenchError, UsageError


def check_class(name: str) -> int:
    """Checks the class behind "module:Class", and prints what it found, an agent's failures each on a line.

    Returns:
        The exit code: 0, or 1 if a promise is broken.

    Raises:
        UsageError: there is no such class, or it is no agent.
    """
    try:
        cls = registry.find("agent", name)
    except MrlBenchError:
        raise
    except Exception as error:  # the module is the user's code
        raise UsageError(f"{name!r} cannot be imported: {_named(error)}") from error
    is_family = hasattr(cls, "params")
    try:
        (mrl_bench.check_family if is_family else mrl_bench.check_agent)(cls)
    except MrlBenchError:
        raise
    except AssertionError as error:
        print(f"mrl-bench: {name}: {error}", file=sys.stderr)
        return 1
    except Exception as error:  # so is the class: an error of its code is a broken promise
        return fail(f"{name}: {_named(error)}", 1)
    print(f"{name}: {'a family' if is_family else 'an agent'} that keeps its contract")
    return 0


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
