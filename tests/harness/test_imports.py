"""Who imports whom, and what is never done anywhere."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mrl_agents
import mrl_tasks
import pytest
from bench_kit import make_scenario

import mrl_bench

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


def test_no_run_unpickles_anything(tmp_path: Path) -> None:
    """Nor does importing torch and the writers of scalars. All in one process, since a hook sees its own alone."""
    scenario = make_scenario(tmp_path)
    code = f"""
import sys
found = []
sys.addaudithook(lambda event, args: found.append(args) if event == "pickle.find_class" else None)
from pathlib import Path
from mrl_bench.runs.run import Run, execute
from mrl_bench.runs.store import Store
from mrl_bench.scenario import find_scenario
from mrl_bench.scenario.suite import AgentSpec
scenario, store = find_scenario({str(scenario.path)!r}), Store(Path({str(tmp_path / "run")!r}))
small = dict(meta_batch_size=2, episodes_per_task=2)
for agent, settings in (("maml", small), ("blind", {{}}), ("random", {{}})):
    run = Run(scenario, AgentSpec(agent, agent, settings), 0, "cpu")
    for _ in range(2):  # and read again
        assert execute(run, store, lambda *_: None).error is None
print("unpickled:", found)
import pickle
pickle.loads(pickle.dumps(print))
assert found, "the hook does not work"
"""
    assert python(code).splitlines()[-1] == "unpickled: []"


def test_every_module_says_what_it_is_for() -> None:
    for package in ROOTS:
        for path, tree in sources(package):
            assert ast.get_docstring(tree) or not tree.body, path


def test_versions_agree() -> None:
    assert (
        python("from importlib.metadata import version; print(version('mrl-bench'))").strip()
        == mrl_bench.__version__
    )
