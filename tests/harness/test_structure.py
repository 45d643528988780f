"""Which package may import which, and how large things may grow. The table is the one in docs/architecture.md."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

import mrl_agents
import mrl_tasks
import pytest

import mrl_bench

ROOTS = {package.__name__: Path(package.__file__).parent for package in (mrl_agents, mrl_bench, mrl_tasks)}

# The packages of the harness from the lowest to the highest; each may import those that its line lists.
CONTRACTS = ("types", "agent", "family", "errors", "registry", "results", "keyed_random")
ARROWS = {
    "contracts": (),
    "scenario": ("contracts",),
    "protocol": ("scenario", "contracts"),
    "checks": ("protocol", "scenario", "contracts"),
    "runs": ("protocol", "scenario", "contracts"),
    "report": ("runs", "protocol", "scenario", "contracts"),
    "leaderboard": ("report", "runs", "protocol", "scenario", "contracts"),
    "front door": ("checks", "protocol", "scenario", "contracts"),
    "cli": ("front door", "leaderboard", "report", "runs", "checks", "protocol", "scenario", "contracts"),
}

# A family's declaration imports its simulation when it makes an environment, and the simulation the declaration.
LAZY_SIMULATIONS = {
    ("mrl_tasks.cartpole.family", "mrl_tasks.cartpole.environment"),
    ("mrl_tasks.driving.family", "mrl_tasks.driving.environment"),
    ("mrl_tasks.driving.family", "mrl_tasks.driving.carla.backend"),
    ("mrl_tasks.locomotion.family", "mrl_tasks.locomotion.environment"),
}

MODULES = {
    ".".join((root, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__"): path
    for root, folder in ROOTS.items()
    for path in sorted(folder.rglob("*.py"))
    if "templates" not in path.parts  # written into users' folders, and imported by nothing here
}


def imported(module: str) -> set[str]:
    """The project's modules that a module imports anywhere, inside functions too; not those for types alone."""
    tree = ast.parse(MODULES[module].read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively"
            whole = str(node.module)
            submodules = {f"{whole}.{alias.name}" for alias in node.names} & MODULES.keys()
            names |= submodules or {whole}
            if any(f"{whole}.{alias.name}" not in MODULES for alias in node.names):
                names.add(whole)
    return (names & MODULES.keys()) - {module}


def package(module: str) -> str:
    """The line of ARROWS that a module of the harness belongs to."""
    _, _, rest = module.partition(".")
    first = rest.partition(".")[0]
    if not first:
        return "front door"
    return "cli" if first == "__main__" else "contracts" if first in CONTRACTS else first


@cache
def graph() -> dict[str, set[str]]:
    return {module: imported(module) for module in MODULES}


def test_the_harness_imports_one_way() -> None:
    against = [
        f"{module} ({package(module)}) imports {other} ({package(other)})"
        for module, others in graph().items()
        if module.startswith("mrl_bench")
        for other in others
        if other.startswith("mrl_bench") and package(other) not in (package(module), *ARROWS[package(module)])
    ]
    assert not against


def test_families_and_agents_import_contracts_alone() -> None:
    against = [
        f"{module} imports {other}"
        for module, others in graph().items()
        if not module.startswith("mrl_bench")
        for other in others
        if other.startswith("mrl_bench") and package(other) != "contracts"
    ]
    assert not against


def test_families_do_not_import_each_other() -> None:
    """The light CARLA server, which is no family, simulates its cars with driving's model of a vehicle."""
    families = ("cartpole", "driving", "locomotion")
    against = []
    for module, others in graph().items():
        own = module.split(".")[1] if module.startswith("mrl_tasks.") else ""
        for other in others:
            theirs = other.split(".")[1] if other.startswith("mrl_tasks.") else ""
            if own in families and theirs in (*families, "carla_light") and own != theirs:
                against.append(f"{module} imports {other}")
    assert not against


def test_there_is_no_cycle() -> None:
    edges = {
        module: {other for other in others if (module, other) not in LAZY_SIMULATIONS}
        for module, others in graph().items()
    }
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle: {' -> '.join(error.args[1])}")


def test_every_exception_is_still_needed() -> None:
    assert all(other in graph()[module] for module, other in LAZY_SIMULATIONS)


def test_the_top_of_the_harness_fits_on_a_screen() -> None:
    entries = {path.name for path in ROOTS["mrl_bench"].iterdir()} - {"__pycache__", "scenarios"}
    assert len(entries) <= 17, sorted(entries)


def test_no_file_is_long_and_most_functions_are_short() -> None:
    long = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert not {module: lines for module, lines in long.items() if lines > 400}
    lengths = [
        _body_lines(node)
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    assert median(lengths) <= 5


def _body_lines(function: ast.FunctionDef) -> int:
    """Lines of a function's body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) and len(function.body) > 1 else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1
