"""`mrl-bench check NAME...`: files against their schema, agents and families against their contract."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mrl_bench import load_scenario, registry
from mrl_bench.cli.terminal import fail_with
from mrl_bench.errors import ContractError, MrlBenchError, UsageError


def check(options: argparse.Namespace) -> int:
    """Checks every name, and prints what it is or what is wrong with it; returns the worst exit code."""
    waive = _waivers(options.waive)
    return max(_checked(name, waive, options.scenario) for name in options.names)


def _waivers(texts: Sequence[str]) -> dict[str, str]:
    """NAME=REASON, as a mapping."""
    for text in texts:
        if "=" not in text:
            raise UsageError(f"--waive {text!r}: give the name of a check and a reason, as NAME=REASON")
    return {name: reason for name, _, reason in (text.partition("=") for text in texts)}


def _checked(name: str, waive: Mapping[str, str], scenario: str) -> int:
    try:
        found = _check_class(name, waive, scenario) if _names_class(name) else _check_file(name, waive)
        print(f"{name}: {found}")
    except ContractError as error:  # the only message of several lines
        print(f"mrl-bench: {name}: {error}", file=sys.stderr)
        return error.exit_code
    except MrlBenchError as error:
        return fail_with(error)
    return 0


def _names_class(name: str) -> bool:
    """Whether a name is one of an agent or a family, not of a file."""
    shipped = {**registry.names("agent"), **registry.names("family")}
    return not os.path.exists(name) and (name in shipped or ":" in Path(name).name)


# -- files ---------------------------------------------------------------------------------------------------------


def _check_file(name: str, waive: Mapping[str, str]) -> str:
    """Reads a scenario or a suite; returns what it is."""
    from mrl_bench.scenario import load_scenario
    from mrl_bench.scenario.suite import is_suite, load_suite
    from mrl_bench.scenario.yaml_reader import read

    if waive:
        raise UsageError(f"{name}: --waive is for agents and families: a file has no promises to waive")
    path = _path(name)
    if is_suite(read(path).data):
        suite = load_suite(path)
        contents = {"scenario": len(suite.entries), "seed": suite.seeds}
        parts = [f"{count} {what}{'s' * (count != 1)}" for what, count in contents.items()]
        return ", ".join([f"suite {suite.id}", *parts])
    scenario = load_scenario(path)
    counts = ", ".join(f"{split.count or 'endless'} {name}" for name, split in scenario.splits.items())
    return f"scenario {scenario.id}, digest {scenario.digest}, tasks: {counts}"


def _path(name: str) -> Path:
    """The file of that name, or of the scenario or suite that ships with mrl-bench."""
    from mrl_bench.scenario import list_scenarios, scenarios_dir
    from mrl_bench.scenario.suite import list_suites, suites_dir

    path = Path(name)
    if os.path.exists(name) or path.suffix or len(path.parts) > 1:
        return path
    shipped = {id: scenarios_dir() for id in list_scenarios()} | {id: suites_dir() for id in list_suites()}
    if name not in shipped:
        known = [*shipped, *registry.names("agent"), *registry.names("family")]
        raise UsageError(
            f"{name!r} is no file, scenario, suite, family or agent: "
            f"{registry.suggestion(name, known, listed_by='mrl-bench list')}"
        )
    return shipped[name] / f"{name}.yaml"


# -- classes -------------------------------------------------------------------------------------------------------


def _check_class(name: str, waive: Mapping[str, str], scenario: str) -> str:
    """Holds a class to its contract, an agent on a scenario; returns what it is.

    Raises:
        ContractError: a promise is broken; lists all of them.
        UsageError: there is no such class, it is neither an agent nor a family, or a waiver is wrong.
    """
    from mrl_bench.checks import agent, family

    cls = registry.find("family" if name in registry.names("family") else "agent", name)
    if _is_family(cls, name):
        family.check(cls, waive)
        kept = "a family that keeps its contract"
    else:
        kept = f"an agent that keeps its contract ({agent.check(cls, load_scenario(scenario), waive)})"
    waived = ", ".join(f"{check} (waived: {reason})" for check, reason in waive.items())
    return f"{kept}, except {waived}" if waived else kept


def _is_family(cls: Any, name: str) -> bool:
    """Whether a class looks more like a family than like an agent."""
    from mrl_bench.checks.declaration import PARTS
    from mrl_bench.protocol.promises import METHODS

    if not isinstance(cls, type):
        raise UsageError(f"{name!r} is no class, but of type {type(cls).__name__}")
    parts, methods = (sum(hasattr(cls, part) for part in names) for names in (PARTS, METHODS))
    if not parts and not methods:
        raise UsageError(
            f"{name!r} is neither an agent, with {', '.join(METHODS)}, nor a family, with {', '.join(PARTS)}"
        )
    return parts > methods
