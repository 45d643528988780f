"""Which source code counts as a run's own, and which edits give it another key."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from bench_kit import make_scenario

from mrl_bench.results import Evaluation
from mrl_bench.runs.code import Code, CodeChanged, are_unchanged, code_of, import_root
from mrl_bench.runs.executor import Executor, NotFinished, check
from mrl_bench.runs.run import Run
from mrl_bench.runs.store import Store
from mrl_bench.scenario.suite import AgentSpec

ROOT = Path(__file__).parents[2]

HELPERS = {
    "beside.py": "",
    "lazy.py": "import deeper",
    "deeper.py": "",
    "pack/__init__.py": "",
    "pack/one.py": "from . import two\nfrom .inner import four",
    "pack/two.py": "",
    "pack/three.py": "",
    "pack/inner/__init__.py": "",
    "pack/inner/four.py": "from ..three import something",
    "pack/inner/five.py": "",
    "pack/bare/leaf.py": "",
    "space/part/__init__.py": "",
    "space/part/module.py": "import round_trip",
    "round_trip.py": "import mine, space.part.module",
    "broken.py": "this is not Python",
}

PACK = {"pack", "pack.one", "pack.two", "pack.three", "pack.inner", "pack.inner.four"}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import beside", {"beside"}),
        ("import beside as other, lazy", {"beside", "lazy", "deeper"}),
        ("from beside import name", {"beside"}),
        ("def f():\n  if x:\n    import beside", {"beside"}),
        ("class C:\n  async def f(self):\n    async with x:\n      import beside", {"beside"}),
        (
            "try:\n  import missing\nexcept ImportError:\n  import beside\nelse:\n  import deeper",
            {"beside", "deeper"},
        ),
        ("match x:\n  case 1:\n    import beside", {"beside"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  import beside", set()),
        ("import typing\nif typing.TYPE_CHECKING:\n  import beside\nelse:\n  import deeper", {"deeper"}),
        ("import pack", {"pack"}),
        ("import pack.inner.five", {"pack", "pack.inner", "pack.inner.five"}),
        ("from pack import three, attribute", {"pack", "pack.three"}),
        ("from pack import *", {"pack"}),
        ("from pack.one import name", PACK),
        ("import pack.bare.leaf", {"pack", "pack.bare.leaf"}),
        ("import space.part", {"space.part"}),
        ("import space.part.module", {"space.part", "space.part.module", "round_trip"}),
        ("import broken", {"broken"}),
        ("from . import beside", set()),
        ("import os, json.decoder, xml.dom.minidom, itertools", set()),
        ("import numpy.linalg, yaml, mrl_bench.runs.executor", set()),
        ("text = 'import beside'", set()),
        ("# -*- coding: latin-1 -*-\nimport beside  # \xe9", {"beside"}),
    ],
)
def test_import_statements_are_followed(
    source: str, found: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, HELPERS)
    (tmp_path / "mine.py").write_bytes(source.encode("latin-1"))
    monkeypatch.syspath_prepend(tmp_path)
    sources = code_of("mine").sources
    assert {name for name in sources if not name.startswith("mrl_bench.")} == {"mine", *found}
    assert sources["mine"] == sha256((tmp_path / "mine.py").read_bytes()).hexdigest()
    assert not {"mine", *found} & sys.modules.keys(), "something was executed"


def test_installed_packages_count_by_their_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "lib" / "site-packages"
    write(
        site,
        {
            "plug/__init__.py": "",
            "plug_in-1.5.dist-info/METADATA": "Name: plug-in\nVersion: 1.5\n",
            "plug_in-1.5.dist-info/top_level.txt": "plug\n",
            "loose.py": "",  # of no distribution
            "mrl_agents/__init__.py": "TABLE = {}",
            "mrl_agents/base.py": "",
            "mine.py": "import plug, loose, numpy, mrl_agents.base",
            "mine-2.0.dist-info/METADATA": "Name: mine\nVersion: 2.0\n",
            "mine-2.0.dist-info/top_level.txt": "mine\n",
        },
    )
    code = """
import json
from mrl_bench.runs.code import code_of
found = code_of("mine")
print(json.dumps([sorted(found.sources), dict(found.packages)]))
"""
    sources, packages = json.loads(python(code, str(site), *sys.path))
    assert {name for name in sources if not name.startswith("mrl_bench.")} == {
        "mine",
        "loose",
        "mrl_agents.base",
    }
    assert packages.keys() == {"plug-in", "numpy"}
    assert packages["plug-in"] == "1.5"


def python(code: str, *path: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_code_is_found_without_torch() -> None:
    code = "import sys; from mrl_bench.runs.code import code_of; code_of('mrl_tasks.driving', 'mrl_agents.mbml');"
    assert python(code + "print('torch' in sys.modules)", *sys.path) == "False\n"


@pytest.mark.parametrize("table", ["agents/mrl_agents/__init__.py", "tasks/mrl_tasks/__init__.py"])
def test_the_tables_of_names_hold_nothing_that_could_change_a_result(table: str) -> None:
    doc, names = ast.parse((ROOT / table).read_text()).body
    assert isinstance(doc, ast.Expr)
    assert isinstance(names, ast.Assign)
    assert all(":" in target for target in ast.literal_eval(names.value).values())


def test_a_change_of_code_is_named() -> None:
    planned = Code({"one": "a", "two": "b", "three": "c"}, {"torch": "2.6"})
    planned.require(planned)
    for now, names in (
        (Code({"one": "a", "two": "x", "three": "c"}, {"torch": "2.6"}), "two"),
        (Code({"one": "a", "three": "c", "new": "d"}, {"torch": "2.6"}), "new, two"),
        (Code(planned.sources, {"torch": "2.7"}), "torch"),
        (Code({}, {}), "one, three, two and 1 more"),
    ):
        with pytest.raises(CodeChanged, match=rf"^{names} changed after the run was planned$"):
            now.require(planned)


# -- which edits move which keys -----------------------------------------------------------------------------------

CODE = {
    "user/helper.py": "",
    "user/lazy.py": "",
    "user/hints.py": "",
    "user/plugin.py": "",
    "user/other_pkg/__init__.py": "",
    "user/other_pkg/base.py": "class Base: pass",
    "user/my_pkg/__init__.py": "",
    "user/my_pkg/sibling.py": "",
    "user/my_pkg/agent.py": """
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
import helper
from other_pkg.base import Base
from . import sibling
if TYPE_CHECKING:
    import hints
importlib.import_module("plug" + "in")

@dataclass
class Config:
    gain: float = 1.0

class Mine(Base):
    Config = Config
    def act(self):
        import lazy
""",
}

# Label -> (scenario, agent).
RUNS = {
    "mine": ("cartpole-wiring-v1", "my_pkg.agent:Mine"),
    "cartpole": ("cartpole-wiring-v1", "maml"),
    "dqn": ("cartpole-wiring-v1", "dqn"),
    "cheetah": ("cheetah-dir-v1", "maml"),
    "drive": ("drive-steering-v3", "maml"),  # on the road s_bends
    "carla": ("drive-steering-v3", "maml"),  # the same on a CARLA server
}
MAML = {"cartpole", "cheetah", "drive", "carla"}
ALL = {*RUNS}

# What is edited -> the runs that get other keys.
EDITS = {
    "user/my_pkg/agent.py": {"mine"},
    "user/helper.py": {"mine"},  # beside the agent's package
    "user/other_pkg/base.py": {"mine"},  # its base class
    "user/other_pkg/__init__.py": {"mine"},
    "user/my_pkg/__init__.py": {"mine"},
    "user/my_pkg/sibling.py": {"mine"},  # imported relatively
    "user/lazy.py": {"mine"},  # imported in a function
    "user/hints.py": set(),  # imported for types alone
    "user/plugin.py": set(),  # imported by a name that is computed; the result records it
    "user/my_pkg/unrelated.py": set(),  # a new file
    "agents/mrl_agents/__init__.py": set(),  # the table of names
    "agents/mrl_agents/mbml.py": set(),
    "agents/mrl_agents/maml.py": MAML,
    "agents/mrl_agents/adam.py": {"dqn"},
    "agents/mrl_agents/networks.py": {*MAML, "dqn"},
    "tasks/mrl_tasks/cartpole/environment.py": {"mine", "cartpole", "dqn"},
    "tasks/mrl_tasks/locomotion/cpu.py": {"cheetah"},
    "tasks/mrl_tasks/driving/vehicle.py": {"drive", "carla"},
    "tasks/mrl_tasks/driving/carla/calibrate.py": set(),  # another command
    "tasks/mrl_tasks/driving/roads/s_bends.json": {"drive", "carla"},
    "tasks/mrl_tasks/driving/roads/s_bends.xodr": {"carla"},
    "tasks/mrl_tasks/driving/roads/loop.json": set(),  # another road
    "tasks/mrl_tasks/delay.py": ALL,
    "mrl_bench/agent.py": ALL,
    "mrl_bench/family.py": ALL,
    "mrl_bench/keyed_random.py": ALL,
    "mrl_bench/protocol/training.py": ALL,
    "mrl_bench/runs/run.py": ALL,
    "mrl_bench/scenario/distributions.py": ALL,
    "mrl_bench/scenario/scenario.py": ALL,
    "mrl_bench/scenario/settings.py": ALL,
    "mrl_bench/runs/executor.py": set(),
    "mrl_bench/report/page.py": set(),
    "mrl_bench/cli/main.py": set(),
    "scenarios/cheetah-dir-v1.yaml": set(),  # a comment
    "scenarios/cheetah-vel-v1.yaml": set(),
    "README.md": set(),
}

# Prints {edited file: labels of the runs whose keys it moved}. Each file gets a line at its end, and loses it again.
MOVED = f"""
import importlib, json
from dataclasses import replace
from pathlib import Path
from mrl_bench.runs.code import code_of
from mrl_bench.runs.run import Run
from mrl_bench.scenario import find_scenario
from mrl_bench.scenario.suite import AgentSpec

def key(label, scenario, agent):
    found = find_scenario(scenario)
    if label == "carla":
        options = replace(found.family, backend="carla")
        found = replace(found, family=options, planned_simulator="carla 0.9.16")
    return Run(found, AgentSpec(label, agent, {{}}), 0, "cpu").key("train")

def keys():
    code_of.cache_clear()
    importlib.invalidate_caches()
    return {{label: key(label, *run) for label, run in {RUNS!r}.items()}}

before, moved = keys(), {{}}
for name in {[*EDITS]!r}:
    path = Path(name)
    text = path.read_bytes() if path.exists() else None
    path.write_bytes((text or b"") + b"# a comment\\n")
    moved[name] = [label for label, key in keys().items() if key != before[label]]
    path.unlink() if text is None else path.write_bytes(text)
assert keys() == before
print(json.dumps(moved))
"""


def test_an_edit_moves_the_keys_of_the_runs_that_it_may_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("mrl_bench", "tasks", "agents", "scenarios"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", tmp_path)
    write(tmp_path, CODE)
    monkeypatch.chdir(tmp_path)
    moved = json.loads(python(MOVED, *(str(tmp_path / part) for part in (".", "tasks", "agents", "user"))))
    assert {name: set(labels) for name, labels in moved.items()} == EDITS


# -- edits while a bench runs --------------------------------------------------------------------------------------

AGENT = """
from dataclasses import dataclass
from pathlib import Path
from toy_agents import Learner
{imports}

@dataclass(frozen=True)
class Config:
    edit: str = ""  # a file that this run edits while it trains
    pause: float = 0.0
    gain: float = 1.0

class Agent(Learner):
    Config = Config
    def meta_train(self, training):
        if self.config.edit:
            with open(self.config.edit, "a") as file:
                file.write("# edited\\n")
        {late}
        super().meta_train(training)
"""


class Starts:
    """The names of the agents that were started, or what became of them."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def started(self, run: Run) -> None:
        self.names.append(run.agent.name)

    def advanced(self, run: Run, *_: object) -> None: ...
    def finished(self, run: Run, evaluation: Evaluation, fresh: bool) -> None: ...
    def unfinished(self, run: Run, reason: str) -> None: ...


def agent_file(folder: Path, name: str, imports: str = "", late: str = "pass") -> Path:
    """A module with an agent."""
    path = folder / f"{name}.py"
    path.write_text(AGENT.format(imports=imports, late=late))
    return path


def execute_agents(
    folder: Path, **edits: Path | str
) -> tuple[dict[str, Evaluation | NotFinished], list[str]]:
    """Plans runs of agents (module -> the file that it edits) and executes them one after another."""
    code_of.cache_clear()
    scenario = make_scenario(folder)
    runs = [
        Run(scenario, AgentSpec(name, f"{name}:Agent", {"edit": str(file)}), 0, "cpu")
        for name, file in edits.items()
    ]
    check(runs)
    starts = Starts()
    results = Executor(Store(folder / "run"), starts, 1, 120).run(runs)
    return dict(zip(edits, results, strict=True)), starts.names


def test_an_edit_of_unrelated_code_stops_nothing_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("first", "second"):
        agent_file(tmp_path, name)
    unrelated = agent_file(tmp_path, "unrelated")
    plan = {"first": unrelated, "second": ""}
    results, starts = execute_agents(tmp_path, **plan)
    assert unrelated.read_text().endswith("# edited\n")
    assert [result.error for result in results.values() if isinstance(result, Evaluation)] == [None, None]
    assert starts == ["first", "second"]
    assert execute_agents(tmp_path, **plan)[1] == []


def test_a_pending_run_whose_code_is_edited_is_refused_by_name_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "beside.py").write_text("")
    agent_file(tmp_path, "first")
    agent_file(tmp_path, "second", imports="import beside")
    agent_file(tmp_path, "third")
    plan = {"first": tmp_path / "beside.py", "second": "", "third": ""}
    results, _ = execute_agents(tmp_path, **plan)
    assert isinstance(results["second"], NotFinished)
    assert (
        str(results["second"])
        == "tiny-v1 second seed 0 is not finished: beside changed after the run was planned"
    )
    assert [results[name].error for name in ("first", "third")] == [None, None]
    results, starts = execute_agents(tmp_path, **plan)
    assert starts == ["second"]
    assert isinstance(results["second"], Evaluation)


def test_code_that_is_edited_before_the_run_imports_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code that was imported before it is edited does no harm."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "late.py").write_text("")
    agent_file(tmp_path, "mine", late="import late")
    results, _ = execute_agents(tmp_path, mine=tmp_path / "late.py")
    assert (
        str(results["mine"]) == "tiny-v1 mine seed 0 is not finished: late changed after the run was planned"
    )
    agent_file(tmp_path, "early", imports="import late")
    results, _ = execute_agents(tmp_path, early=tmp_path / "late.py")
    assert isinstance(results["early"], Evaluation), results
    assert results["early"].error is None


def test_a_dynamic_import_is_recorded_and_its_edit_repeats_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a module that is found only because the agent extends the import path."""
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path, {"plugin.py": "", "lib/hidden.py": "", "lib/unused.py": ""})
    agent_file(
        tmp_path,
        "mine",
        imports=f"import importlib, sys\nsys.path.append({str(tmp_path / 'lib')!r})\nimport hidden",
        late="importlib.import_module('plug' + 'in')",
    )
    agent_file(tmp_path, "plain")
    path = sys.path.copy()
    results, starts = execute_agents(tmp_path, mine="", plain="")
    assert sys.path == path, "the agent's import path is its own"
    assert starts == ["mine", "plain"]
    empty = sha256(b"").hexdigest()
    for result in (results["mine"], results["mine"].training):
        assert result.sources == {"lib/hidden.py": empty, "plugin.py": empty}
    assert not results["plain"].sources
    assert "sources" not in results["plain"].to_json() | results["plain"].training.to_json()
    for edited, repeated in (("lib/unused.py", []), ("plugin.py", ["mine"]), ("lib/hidden.py", ["mine"])):
        (tmp_path / edited).write_text("1")
        assert execute_agents(tmp_path, mine="", plain="")[1] == repeated, edited
    assert execute_agents(tmp_path, mine="", plain="")[1] == []


def test_recorded_files_are_unchanged_while_all_of_them_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path / "root")
    write(tmp_path, {"beside/plugin.py": "", "root/pack/module.py": "", "root/single.py": ""})
    assert import_root("pack.module") == import_root("single") == tmp_path / "root"
    root, recorded = tmp_path / "root", {"../beside/plugin.py": sha256(b"").hexdigest()}
    assert are_unchanged({}, root)
    assert are_unchanged(recorded, root)
    (tmp_path / "beside" / "plugin.py").write_text("1")
    assert not are_unchanged(recorded, root)
    (tmp_path / "beside" / "plugin.py").unlink()
    assert not are_unchanged(recorded, root)
