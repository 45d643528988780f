"""What was run: a scenario's description and terms, each agent's settings, and the command that makes its row again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from mrl_bench.scenario import Budget, Protocol, list_scenarios, scenarios_dir
from mrl_bench.scenario.description import Description, budget_in_words, protocol_in_words
from mrl_bench.scenario.settings import assignments


@dataclass(frozen=True)
class AgentSetup:
    """One agent on one scenario."""

    agent: str  # short name or "module:Class"
    settings: tuple[str, ...]  # that were given, as `--set` takes them; all others have their defaults
    command: str  # of the shell; makes the agent's row again


@dataclass(frozen=True)
class Setup:
    """A scenario, and what was run on it."""

    description: Description
    budget: str  # in words
    protocol: str
    agents: Mapping[str, AgentSetup]


def read_setups(manifest: Mapping[str, Any]) -> dict[str, Setup]:
    """The setup of each scenario of a manifest, by the scenario's digest."""
    runs: dict[str, list[Mapping[str, Any]]] = {}
    for run in manifest["runs"]:
        runs.setdefault(run["digest"], []).append(run)
    adapter = TypeAdapter(Description)
    return {
        digest: Setup(
            description=adapter.validate_python(manifest["scenarios"][digest]),
            budget=budget_in_words(Budget(**of_scenario[0]["budget"])),
            protocol=protocol_in_words(_protocol(of_scenario[0]["protocol"])),
            agents=_agents(of_scenario, manifest["suite_file"]),
        )
        for digest, of_scenario in runs.items()
        if digest in manifest["scenarios"]
    }


def _protocol(values: Mapping[str, Any]) -> Protocol:
    return Protocol(**{**values, "k": tuple(values["k"])})


def _agents(runs: list[Mapping[str, Any]], suite: str | None) -> dict[str, AgentSetup]:
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        by_name.setdefault(run["agent"]["name"], []).append(run)
    return {
        name: AgentSetup(
            agent=own[0]["agent"]["agent"],
            settings=tuple(assignments(own[0]["agent"]["settings"])),
            command=_command(own, suite),
        )
        for name, own in by_name.items()
    }


def _command(runs: list[Mapping[str, Any]], suite: str | None) -> str:
    """Evaluates each seed of an agent; with several, a loop of the shell."""
    run = runs[0]
    words = ["mrl-bench", "evaluate"]
    if suite:
        words += [run["terms"]["scenario"], run["agent"]["name"], "--suite", suite]
    else:
        words += [_scenario(run), run["agent"]["agent"]]
        words += [word for setting in assignments(run["agent"]["settings"]) for word in ("--set", setting)]
        if len(set(run["budget"].values())) == 1:  # given by `--budget`, or the same as without it
            words += ["--budget", str(run["budget"]["meta_train"])]
    command = shlex.join([*words, "--device", run["device"], "--seed"])
    seeds = " ".join(str(seed) for seed in sorted(run["seed"] for run in runs))
    return f"{command} {seeds}" if len(runs) == 1 else f'for seed in {seeds}; do {command} "$seed"; done'


def _scenario(run: Mapping[str, Any]) -> str:
    """A scenario by its id if it ships, else by the name of its file."""
    path = Path(run["scenario"])
    ships = path.stem in list_scenarios() and path.parent == scenarios_dir().resolve()
    return path.stem if ships else path.name
