"""Finds a family or an agent by its short name, or by "module:Class" for one outside mrl-bench.

The tables map names to strings, so listing them imports neither torch nor a simulator.
"""

from __future__ import annotations

from importlib import import_module
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
    if not (colon and module and attribute) or module.startswith("."):
        raise UsageError(f"no {kind} {name!r}: {nearest(name, table)} (or give 'module:Class')")
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
