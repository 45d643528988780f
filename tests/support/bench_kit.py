"""Shared by tests of benches: tiny scenarios and suites, and the command line in a new process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
import yaml

from mrl_bench.cli.main import main
from mrl_bench.protocol.training import BudgetedTraining, Log
from mrl_bench.results import Online
from mrl_bench.runs.executor import plan_runs
from mrl_bench.runs.manifest import write_manifest
from mrl_bench.runs.run import Run, execute
from mrl_bench.runs.store import Store
from mrl_bench.scenario import Scenario, find_scenario
from mrl_bench.scenario.references import ReferenceAgent, ReferenceReturns, References, references_path
from mrl_bench.scenario.suite import AgentSpec, find_suite

SCENARIO: Mapping[str, Any] = {
    "id": "tiny-v1",
    "doc": "A pole of which an episode is over soon.",
    "family": "cartpole",
    "options": {"reward": "target"},
    "horizon": 12,
    "params": {"wiring": {"choice": [-1, 1]}, "force_magnitude": {"uniform": [20, 60]}},
    "splits": {
        "test": {"count": 3, "seed": 1},
        "ood": {"count": 2, "seed": 2, "params": {"force_magnitude": {"uniform": [70, 90]}}},
    },
    "budget": {"meta_train": 300, "blind": 3000, "oracle": 3000},
    "protocol": {"k": [0, 2, 6], "episodes_per_round": 2, "scored_episodes": 3},
}


def make_scenario(folder: Path, **changes: Any) -> Scenario:
    """The tiny scenario with some of its keys replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny-v1.yaml"
    path.write_text(yaml.safe_dump(dict(SCENARIO) | changes))
    return find_scenario(path)


def make_references(scenario: Scenario) -> References:
    """References as three training seeds may give them, of tasks that hardly need adaptation, as the tiny ones do."""
    agents = {}
    for agent, earned in {"random": 1.0, "blind": 9.0, "oracle": 10.0}.items():
        half = np.zeros(0) if agent == "random" else np.full(3, earned)  # they have converged
        splits = {
            split: ReferenceReturns(np.full((3, len(scenario.tasks(split))), earned), {}, half)
            for split in scenario.splits
        }
        agents[agent] = ReferenceAgent(scenario.budget.of(agent), (0, 1, 2), {}, splits)
    return References(scenario.id, agents, {}, scenario.tasks_digest, made_with={"bench_kit": "1"})


def ship_references(scenario: Scenario) -> None:
    """Writes references next to the scenario, so that no bench trains any."""
    path = references_path(scenario)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(make_references(scenario).to_bytes())


def make_suite(
    folder: Path, agents: Mapping[str, Any], seeds: int = 1, references: bool = True, **changes: Any
) -> Path:
    """A suite of the tiny scenario, with references or without."""
    scenario = make_scenario(folder, **changes)
    if references:
        ship_references(scenario)
    path = folder / "tiny.yaml"
    suite = {
        "id": "tiny",
        "doc": "Tiny.",
        "seeds": seeds,
        "agents": dict(agents),
        "scenarios": [{"scenario": "tiny-v1.yaml"}],
    }
    path.write_text(yaml.safe_dump(suite))
    return path


def toy(name: str, **settings: Any) -> dict[str, Any]:
    """One of the toy agents, as a suite names it."""
    return {"agent": f"toy_agents:{name}", "set": settings}


def toy_run(scenario: Scenario, name: str, seed: int = 0, **settings: Any) -> Run:
    return Run(scenario, AgentSpec(name.lower(), f"toy_agents:{name}", settings), seed, "cpu")


def planned_run(suite: Path, agent: str, seed: int = 0) -> Run:
    return next(
        run for run in plan_runs(find_suite(suite), "cpu") if (run.agent.name, run.seed) == (agent, seed)
    )


def canonical(folder: Path) -> dict[str, bytes]:
    """The files that must be identical, byte for byte, in two executions of the same bench."""
    names = [
        *(path for kind in ("results", "weights", "episodes") for path in folder.glob(f"{kind}/*")),
        *folder.glob("scores.json"),
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in names}


def bench_here(suite: Path, folder: Path) -> None:
    """A bench in this process, without a report."""
    found, store = find_suite(suite), Store(folder)
    runs = plan_runs(found, "cpu")
    write_manifest(store, found, runs)
    for run in runs:
        execute(run, store, lambda *_: None)


def online(tasks: int, episodes: int, returns: float = 0.0, **metrics: float) -> Online:
    """Adaptation episodes that were all alike and did not fail."""
    shape = (tasks, episodes)
    return Online(
        np.full(shape, returns),
        np.zeros(shape, dtype=np.int64),
        {name: np.full(shape, value) for name, value in metrics.items()},
    )


class Cli:
    """`mrl-bench` with some arguments, in a new process. The processes that it starts can be found."""

    def __init__(self, *arguments: object, **options: Any) -> None:
        self.token = uuid4().hex
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                # A shell that started the tests in the background may have switched Ctrl-C off.
                "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
                "from mrl_bench.cli.main import main; sys.exit(main())",
                *map(str, arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ
            | {
                "MRL_TEST": self.token,
                "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
            },
            **options,
        )

    def wait_for(self, beginning: str) -> str:
        """Reads output up to a line that begins so."""
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith(beginning):
                return line
        raise AssertionError(f"no line begins with {beginning!r}: {self.end()}")

    def end(self, timeout: float = 120) -> tuple[int, str, str]:
        """Exit code, and what was left of output and errors."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out, err

    def alive(self) -> list[int]:
        """The processes that are left of it."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self.token.encode() in path.read_bytes():
                    found.append(int(path.parent.name))
            except OSError:  # it ended meanwhile
                continue
        return found

    def is_gone(self, within: float = 10) -> bool:
        """Whether nothing is left of it, after some seconds at most."""
        until = time.monotonic() + within
        while self.alive():
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True


def run_cli(*arguments: object, **options: Any) -> tuple[int, str, str]:
    return Cli(*arguments, **options).end()


def run_here(*arguments: object) -> tuple[int, str, str]:
    """`mrl-bench` with some arguments, in this process; exit code, output and errors."""
    out, err, before = StringIO(), StringIO(), signal.getsignal(signal.SIGTERM)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = main([*map(str, arguments)])
    finally:
        signal.signal(signal.SIGTERM, before)
    return code, out.getvalue(), err.getvalue()


def make_training(
    scenario: Scenario,
    budget: int = 1000,
    seed: int = 0,
    log: Log = lambda values, step: None,
) -> BudgetedTraining:
    """Meta-training on the CPU, by default without a log."""
    return BudgetedTraining(scenario, budget=budget, seed=seed, device=torch.device("cpu"), log=log)
