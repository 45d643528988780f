"""Finds the trained agent that a video shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrl_bench import registry
from mrl_bench.errors import UsageError
from mrl_bench.runs.manifest import damaged_manifest, read_manifest
from mrl_bench.runs.run import Run
from mrl_bench.runs.store import Store
from mrl_bench.runs.terms import Terms
from mrl_bench.scenario import Scenario, find_scenario
from mrl_bench.scenario.suite import AgentSpec

if TYPE_CHECKING:
    from torch import Tensor

FOLDERS = (Path("runs/quick"), Path("runs/single"))  # searched for weights if no results folder is given

Weights = Mapping[str, "Tensor"]


def find_trained_run(scenario: str, agent: str, seed: int, results: Path | None) -> tuple[Run, Weights]:
    """The run of an agent on a scenario, and the weights that it meta-learned.

    Args:
        scenario: id or YAML file.
        agent: its name in the results, a short name, or "module:Class".
        seed: the training seed.
        results: results folder of `bench`, `train` or `evaluate`; by default the first of `FOLDERS` with weights.

    Raises:
        UsageError: there is no such scenario or agent, or no such weights.
    """
    found = find_scenario(scenario)
    run = Run(found, AgentSpec.outside_suite(agent, {}), seed, "cpu")
    if agent == "random":
        return run, {}
    folders = FOLDERS if results is None else (results,)
    known = agent in registry.names("agent") or ":" in agent
    names = set(registry.names("agent"))
    for store in map(Store, folders):
        for entry in _planned(store.folder):
            names.add(entry["agent"]["name"])
            fits = (Path(entry["scenario"]).stem, entry["seed"]) == (found.id, seed)
            fits = fits and agent in (entry["agent"]["name"], entry["agent"]["agent"])
            if fits and store.trained(entry["train"], Terms.from_json(entry["terms"])) is not None:
                return _planned_run(store, entry, found), store.weights(entry["train"], "cpu")
        if known and store.folder.is_dir():  # `train` and `evaluate` write no manifest
            key = run.key("train")
            if store.trained(key, run.terms) is not None:
                return run, store.weights(key, "cpu")
    if not known and agent not in names:
        raise UsageError(f"no agent {agent!r}: {registry.suggestion(agent, names)}")
    raise UsageError(
        f"no weights of {agent!r} with seed {seed} on {found.id} in {' or '.join(map(str, folders))}: "
        "train it first, or give another results folder with --results"
    )


def _planned_run(store: Store, entry: Mapping[str, Any], scenario: Scenario) -> Run:
    try:
        planned = Run.from_json({**entry, "scenario": str(scenario.path)})
    except (ValueError, TypeError, KeyError):
        raise damaged_manifest(store.folder) from None
    return replace(planned, device="cpu")


def _planned(folder: Path) -> list[dict[str, Any]]:
    """The runs that a results folder's manifest lists; none if it has no manifest."""
    if not (folder / "manifest.json").is_file():
        return []
    runs: list[dict[str, Any]] = read_manifest(folder)["runs"]
    return runs
