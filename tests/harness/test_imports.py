"""Who imports whom, and what is never done anywhere."""

from __future__ import annotations

import ast
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mrl_agents
import mrl_tasks
import pytest
from bench_kit import make_scenario
from forked_code import execute_lines

import mrl_bench
from mrl_bench.errors import ContractError
from mrl_bench.runs.isolation.remote import Isolation

ROOTS = {package.__name__: Path(package.__file__).parent for package in (mrl_agents, mrl_bench, mrl_tasks)}
SIMULATORS = {"mujoco", "mujoco_warp", "carla", "gymnasium"}


def sources(package: str) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(ROOTS[package].rglob("*.py")):
        yield path, ast.parse(path.read_text())


def imports(tree: ast.AST) -> set[str]:
    """Top-level modules that are imported anywhere in a source, in functions too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
    return found


@pytest.mark.parametrize(
    ("package", "others"),
    [
        ("mrl_bench", {"mrl_tasks", "mrl_agents", "tests", *SIMULATORS}),
        ("mrl_agents", {"mrl_tasks", "tests", *SIMULATORS}),
        ("mrl_tasks", {"mrl_agents", "tests"}),
    ],
)
def test_packages_import_downwards(package: str, others: set[str]) -> None:
    crossing = {str(path): imports(tree) & others for path, tree in sources(package)}
    assert not {path: found for path, found in crossing.items() if found}


def test_carla_is_imported_in_one_place() -> None:
    """Besides the script that writes the roads, which nothing imports."""
    importing = {path.name for path, tree in sources("mrl_tasks") if "carla" in imports(tree)}
    assert importing <= {"client.py"}


@pytest.mark.parametrize("package", ROOTS)
def test_nothing_is_pickled(package: str) -> None:
    forbidden = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    for path, tree in sources(package):
        assert not imports(tree) & forbidden, path
        calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert not {"torch.load", "torch.save", "np.load", "numpy.load", "yaml.load", "eval", "exec"} & set(
            calls
        ), path


def python(code: str, *options: str) -> str:
    ran = subprocess.run(
        [sys.executable, *options, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout


def test_importing_the_harness_warns_of_nothing_and_imports_no_family_agent_or_simulator() -> None:
    code = f"""
import importlib, pkgutil, sys, mrl_bench
for module in pkgutil.walk_packages(mrl_bench.__path__, "mrl_bench."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(*{{name.partition(".")[0] for name in sys.modules}} & { {"mrl_tasks", "mrl_agents", "ray", *SIMULATORS}!r})
"""
    assert not python(code, "-W", "error").split()


class ByName:
    """What pickle finds by its name."""


def test_no_process_of_a_test_can_unpickle_objects(tmp_path: Path) -> None:
    """Neither this one, nor a new one, nor a worker, nor that of an isolated agent."""
    pickled = pickle.dumps(ByName)
    with pytest.raises(RuntimeError, match=r"unpickled test_imports\.ByName"):
        pickle.loads(pickled)
    code = f"import pickle\ntry: pickle.loads({pickle.dumps(print)!r})\nexcept RuntimeError as error: print(error)"
    assert python(code).strip() == "unpickled builtins.print"
    assert execute_lines(code) == ["unpickled", "builtins.print"]
    scenario = make_scenario(tmp_path)
    with (
        Isolation() as isolation,
        pytest.raises(ContractError, match=r"unpickled builtins\.print"),
        isolation.agent("escaping_agents:Unpickles", scenario.spec, {}, 0),
    ):
        pass


def test_every_module_says_what_it_is_for() -> None:
    for package in ROOTS:
        for path, tree in sources(package):
            assert ast.get_docstring(tree) or not tree.body, path


def test_versions_agree() -> None:
    assert (
        python("from importlib.metadata import version; print(version('mrl-bench'))").strip()
        == mrl_bench.__version__
    )
