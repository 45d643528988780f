"""What the command line prints when something is wrong: one line, or one for each fault of a YAML file."""

from __future__ import annotations

import sys
from contextlib import suppress

from mrl_bench.errors import MrlBenchError, SourceError, printable

_LONGEST = 1000  # characters of an error message; a longer one loses its middle


def one_line(message: str) -> str:
    """The message without line breaks and control characters, and at most 1,000 characters long."""
    text = printable(" ".join(message.splitlines()))
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[: half - 3]} ... {text[2 - half :]}"


def fail(message: str, exit_code: int) -> int:
    """Prints an error to standard error; returns the exit code."""
    with suppress(OSError):  # standard error is closed too
        print(f"mrl-bench: {one_line(message)}", file=sys.stderr)
    return exit_code


def fail_with(error: MrlBenchError) -> int:
    """Prints an error of the benchmark, all faults of a YAML file; returns its exit code."""
    for line in error.lines if isinstance(error, SourceError) else [str(error)]:
        fail(line, error.exit_code)
    return error.exit_code
