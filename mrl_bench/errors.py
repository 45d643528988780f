"""What can go wrong, and the exit code that each kind ends the command line with.

MrlBenchError              1  a run, or a check of its results, failed
├── UsageError             2  a wrong name, option or value
│   └── SourceError        2  a YAML file is wrong: carries file, line and column
├── MissingPart            3  an optional part is not installed, or a server is not there
└── BudgetSpent            -  an agent asked for steps beyond its budget: ends its meta-training
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class MrlBenchError(Exception):
    """Base of all errors that are reported in one line."""

    exit_code = 1


class UsageError(MrlBenchError):
    """The user asked for something that does not exist or does not fit."""

    exit_code = 2


class SourceError(UsageError):
    """A place in a YAML file is wrong. `line` and `column` count from 1."""

    def __init__(self, path: Path | str, line: int, column: int, message: str) -> None:
        super().__init__(f"{path}:{line}:{column}: {message}")
        self.path, self.line, self.column, self.message = Path(path), line, column, message


class MissingPart(MrlBenchError):
    """An optional part is missing; the message says what to install or start."""

    exit_code = 3


class BudgetSpent(MrlBenchError):
    """The env-step budget of a meta-training run is used up."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error line: the nearest of the known names if one is near, else all of them."""
    known = sorted(known)
    match = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {match[0]!r}?" if match else f"there is: {', '.join(known) or 'nothing'}"


def printable(text: str) -> str:
    """Text without characters that control a terminal, reverse a line or break XML: each becomes U+FFFD."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
