"""Finds a family or an agent by its short name, or by "module:Class" for one outside mrl-bench.

The tables map names to strings, so listing them imports neither torch nor a simulator.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import PurePath
from typing import Any

from mrl_bench.errors import MrlBenchError, UsageError, nearest, reason

_PACKAGES = {"family": "mrl_tasks", "agent": "mrl_agents"}


def names(kind: str) -> dict[str, str]:
    """Short name -> "module:Class" of the families or agents (`kind`) that ship with mrl-bench."""
    table: dict[str, str] = import_module(_PACKAGES[kind]).TABLE
    return table


def target(kind: str, name: str) -> str:
    """The "module:Class" of a short name; any other name as it is."""
    return names(kind).get(name, name)


def extend_command_line(commands: Any, bench: Any) -> None:
    """Lets families add sub-commands to argparse's `commands`, and options to the parser of `bench`.

    An option of `bench` whose `dest` is "FAMILY.OPTION" overrides that option in the scenarios of the family.
    """
    import_module(_PACKAGES["family"] + ".command_line").extend(commands, bench)


def find(kind: str, name: str) -> Any:
    """Imports the class with a short name or a "module:Class".

    Raises:
        UsageError: the name, module or class does not exist, or its import fails; the message says why.
    """
    table = names(kind)
    module, colon, attribute = target(kind, name).partition(":")
    if not (colon and module and attribute) or module.startswith(".") or module.endswith(".py"):
        raise UsageError(f"no {kind} {name!r}: {suggestion(name, table)}")
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(error.name + ".")):
            raise UsageError(f"{kind} {name!r}: no module {error.name!r} can be imported") from None
        raise _broken(kind, name, error) from error
    except MrlBenchError:
        raise
    except (Exception, SystemExit) as error:  # the module is the user's code
        raise _broken(kind, name, error) from error
    if not hasattr(found, attribute):
        public = [known for known in vars(found) if not known.startswith("_")]
        raise UsageError(
            f"{kind} {name!r}: module {module} has no {attribute!r}: {nearest(attribute, public)}"
        )
    return getattr(found, attribute)


def _broken(kind: str, name: str, error: BaseException) -> UsageError:
    return UsageError(f"{kind} {name!r} cannot be imported: {reason(error)}")


def suggestion(name: str, known: Iterable[str], listed_by: str = "") -> str:
    """A hint for error messages about a name that is neither known nor a "module:Class"; see `errors.nearest`."""
    path, _, attribute = name.partition(":")
    if path.endswith(".py"):  # as "./agents/lean.py:Lean"
        module = ".".join(PurePath(path).with_suffix("").parts)
        return f"did you mean '{module}:{attribute or 'Class'}'?"
    module, _, attribute = name.rpartition(".")
    if module and attribute.isidentifier():  # as "lean.Lean"
        return f"did you mean '{module}:{attribute}'?"
    return f"{nearest(name, known, listed_by)} (or give 'module:Class')"
