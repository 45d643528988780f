"""Runs the checks of a contract on a class: every broken promise is listed, and an exception is one line."""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Generic, TypeVar

from mrl_bench.errors import ContractError, MissingPart, UsageError, nearest, printable

Subject = TypeVar("Subject")

# Where the harness, the standard library and installed packages are.
_INSTALLED = tuple(
    f"{folder}{os.sep}"
    for folder in (
        Path(__file__).parents[1],
        *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")),
    )
)
_SHOWN = 4  # entries of a list that are named
_LONGEST = 400  # characters of a finding


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """A promise, and a function that yields what it finds wrong, one line each.

    The name of the function is what a waiver names; the first paragraph of its docstring is the promise.
    """

    function: Callable[[Subject], Iterator[str]]
    gate: bool = False  # if it fails, the checks after it make no sense, and do not run

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def promise(self) -> str:
        text = (self.function.__doc__ or self.name).partition("\n\n")[0]
        return " ".join(text.split()).rstrip(".")

    def findings(self, subject: Subject, package: str) -> list[str]:
        """What is wrong, one line each; empty if the promise is kept. `package` holds the code of the subject.

        Raises:
            MissingPart: an optional package is missing, so that the promise cannot be checked.
        """
        found: dict[str, None] = {}
        try:
            for line in self.function(subject):
                found[_one_line(line)] = None
        except MissingPart:
            raise
        except ContractError as error:
            found[_one_line(str(error))] = None
        except (Exception, SystemExit) as error:  # the subject is anyone's code, and may fail in any way
            found[_one_line(crash(error, package))] = None
        return list(found)


def hold(
    subject: Subject,
    checks: Sequence[Check[Subject]],
    waive: Mapping[str, str],
    *,
    name: str,
    kind: str,
    package: str,
) -> None:
    """Runs checks, and lists every broken promise.

    Args:
        subject: what is checked.
        checks: in the order in which they run.
        waive: name of a check -> why its promise need not be kept.
        name, kind: of the subject, for the message: "MyAgent", "an agent".
        package: top-level package of the subject's code.

    Raises:
        ContractError: a promise is broken; the message has several lines.
        UsageError: a waiver names no check, gives no reason, or is not needed.
    """
    refuse_waivers(waive, [check.name for check in checks])
    failures: dict[Check[Subject], list[str]] = {}
    held: list[str] = []
    for check in checks:
        found = check.findings(subject, package)
        if not found:
            held.append(check.name)
        elif check.name not in waive:
            failures[check] = found
            if check.gate:
                break
    unneeded = [waived for waived in waive if waived in held]
    if failures:
        reached = {*held, *waive, *(check.name for check in failures)}
        skipped = [check.name for check in checks if check.name not in reached]
        raise ContractError("\n".join(_listing(name, kind, failures, skipped, unneeded)))
    if unneeded:
        raise UsageError(f"waived without need: {name} keeps the promise of {', '.join(unneeded)}")


def refuse_waivers(waive: Mapping[str, str], known: Sequence[str]) -> None:
    """Raises UsageError for a waiver that names no check, or gives no reason."""
    for name, reason in waive.items():
        if name not in known:
            raise UsageError(f"there is no check {name!r} to waive: {nearest(name, known)}")
        if not (isinstance(reason, str) and reason.strip()):
            raise UsageError(f"a waiver of {name!r} must say why: give a reason, not {reason!r}")


def crash(error: BaseException, package: str) -> str:
    """An exception in one line: type, message, and the innermost line of the author's own code.

    Args:
        error: as it was caught.
        package: a top-level package of the author's.
    """
    message = f"{type(error).__name__}: {error}".removesuffix(": ")
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [(frame, line) for frame, line in frames if _is_own(frame, package)]
    if not frames:
        return message
    frame, line = (own or frames)[-1]
    return f"{message} ({Path(frame.f_code.co_filename).name}:{line}, in {frame.f_code.co_name})"


def _is_own(frame: FrameType, package: str) -> bool:
    """Whether a frame runs code of the author's: of that package, or of a module that is not installed."""
    file = frame.f_code.co_filename
    of_package = frame.f_globals.get("__name__", "").partition(".")[0] == package
    return of_package or not file.startswith(("<", *_INSTALLED))


def package_of(cls: type) -> str:
    """The top-level package of a class."""
    return cls.__module__.partition(".")[0]


def _listing(
    name: str,
    kind: str,
    failures: Mapping[Check[Subject], list[str]],
    skipped: Sequence[str],
    unneeded: Sequence[str],
) -> Iterator[str]:
    count = f"{len(failures)} promise{'s' * (len(failures) > 1)}"
    yield f"{name} breaks {count} of {kind}:"
    for check, found in failures.items():
        yield f"- {check.name}"
        yield f"    promised: {check.promise}"
        yield from (f"    found: {line}" for line in found[:_SHOWN])
        if len(found) > _SHOWN:
            yield f"    and {len(found) - _SHOWN} more"
    if skipped:
        more = f" and {len(skipped) - _SHOWN} more" if len(skipped) > _SHOWN else ""
        yield f"not checked before that is repaired: {', '.join(skipped[:_SHOWN])}{more}"
    if unneeded:
        yield f"waived without need: {', '.join(unneeded)}"


def _one_line(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."
