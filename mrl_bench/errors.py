"""The exceptions of mrl-bench, with the exit code of the command line for each.

MrlBenchError              1  a run, or a check of its results, failed
├── UsageError             2  an invalid name, option or value
│   └── SourceError        2  an invalid YAML file; has the file, line and column
├── MissingPart            3  an optional package is not installed, or a server cannot be reached
├── ContractError          1  an agent or a family broke a promise of its interface
└── BudgetSpent            -  an agent's env-step budget is used up; ends its meta-training
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class MrlBenchError(Exception):
    """Base class. The command line reports these errors in one line, without a traceback."""

    exit_code = 1


class UsageError(MrlBenchError):
    """The user's input is invalid: an unknown name, or a value that is not accepted."""

    exit_code = 2


class SourceError(UsageError):
    """A YAML file is invalid at `line` and `column`, both counted from 1.

    `others` are further faults that were found with it. `lines` has one line for each fault, and so has the text.
    """

    def __init__(
        self, path: Path | str, line: int, column: int, message: str, others: Iterable[SourceError] = ()
    ) -> None:
        self.path, self.line, self.column, self.message = Path(path), line, column, message
        self.lines: tuple[str, ...] = (
            f"{path}:{line}:{column}: {message}",
            *(text for other in others for text in other.lines),
        )
        super().__init__("\n".join(self.lines))


class MissingPart(MrlBenchError):
    """An optional package or server is missing; the message says what to install or start."""

    exit_code = 3


class ContractError(MrlBenchError):
    """An agent or a family broke a promise of its interface; the message says which, and what was found."""


class BudgetSpent(MrlBenchError):
    """The env-step budget of a meta-training run is used up."""


_FEW = 12  # names that fit in an error message


def nearest(name: str, known: Iterable[str], listed_by: str = "") -> str:
    """A hint for error messages: the known name most similar to `name`; without one all known names, if they are few.

    Args:
        listed_by: the command that shows all names.
    """
    known = sorted(known)
    if match := similar(name, known):
        return f"did you mean {match!r}?"
    if len(known) <= _FEW:
        return f"there is: {', '.join(known) or 'nothing'}"
    closest = ", ".join(get_close_matches(name, known, n=3, cutoff=0))
    return f"nearest of {len(known)}: {closest}" + (f"; {listed_by!r} shows all" if listed_by else "")


def similar(name: str, known: Iterable[str]) -> str | None:
    """The known name most similar to `name`, if one could be meant."""
    return next(iter(get_close_matches(name, sorted(known), n=1, cutoff=0.6)), None)


def printable(text: str) -> str:
    """Text without characters that control a terminal, reverse a line or break XML: each becomes U+FFFD."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def kind_of(value: object) -> str:
    """The type of a value, with its article."""
    if value is None:
        return "None"
    name = "numpy array" if type(value).__name__ == "ndarray" else type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def reason(error: BaseException) -> str:
    """An exception of a user's code, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
