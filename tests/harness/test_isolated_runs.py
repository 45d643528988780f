"""Runs whose agent trains and plays in a process of its own: the results are the same, and who cheats gains nothing."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bench_kit import make_scenario, make_suite, make_training, run_here, toy_run

from mrl_bench import registry
from mrl_bench.errors import ContractError
from mrl_bench.leaderboard.entry import Entry
from mrl_bench.protocol.promises import seed_global_generators
from mrl_bench.protocol.training import meta_train
from mrl_bench.runs.isolation.remote import Isolation, RemoteAgent
from mrl_bench.runs.run import Run, execute
from mrl_bench.runs.store import Store
from mrl_bench.scenario import Scenario
from mrl_bench.scenario.settings import make_config

CPU = torch.device("cpu")
EXAMPLES = Path(__file__).parents[2] / "examples"
MBML = {"rounds": 2, "meta_batch_size": 4, "model_iterations": 2, "policy_iterations": 2}
Logged = list[tuple[int, dict[str, float]]]


@pytest.fixture(scope="module")
def isolation() -> Any:
    with Isolation() as found:
        yield found


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    return make_scenario(tmp_path_factory.mktemp("scenario"))


def trained(agent: Any, scenario: Scenario, budget: int = 900) -> tuple[dict[str, torch.Tensor], Logged, int]:
    """Weights, logged scalars, and env steps."""
    logged: Logged = []

    def log(values: Any, step: int) -> None:
        logged.append((step, {tag: value for tag, value in values.items() if tag != "charts/SPS"}))

    training = make_training(scenario, budget, seed=3, log=log)
    meta_train(agent, training)
    return agent.state_dict(), logged, training.steps


@pytest.mark.parametrize(
    ("target", "settings"),
    [
        ("toy_agents:Learner", {}),
        ("mrl_agents.maml:Maml", {"meta_batch_size": 2}),
        ("mrl_agents.mbml:Mbml", MBML | {"action_history": 2}),  # has a memory
        ("mrl_agents.dqn:Dqn", {}),
        ("rl2:RL2", {}),  # is sequential
    ],
)
def test_an_agent_learns_the_same_in_isolation(
    isolation: Isolation,
    scenario: Scenario,
    target: str,
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    cls = registry.find("agent", target)
    seed_global_generators(3)
    weights, logged, steps = trained(cls(scenario.spec, make_config(cls, settings), 3, CPU), scenario)
    with isolation.agent(target, scenario.spec, settings, 3, [EXAMPLES]) as agent:
        found, logged_there, steps_there = trained(agent, scenario)
    assert weights.keys() == found.keys()
    assert all(torch.equal(weights[name], found[name]) for name in weights)
    assert logged == logged_there
    assert steps == steps_there > 0


def conducted(isolation: Isolation, scenario: Scenario, name: str) -> RemoteAgent:
    with isolation.agent(f"escaping_agents:{name}", scenario.spec, {}, 3) as agent:
        trained(agent, scenario)
    return agent


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("AsksForTheWorld", "more than the budget has steps"),
        ("AsksForNothing", "must be a whole number"),
        ("InventsTasks", "tasks that it was not given"),
        ("TalksNonsense", "an answer that was not asked for"),
        ("SendsNoWeights", "no safetensors file"),
        ("LeavesInTraining", "has ended"),
    ],
)
def test_an_agent_that_misuses_its_training_fails_alone(
    isolation: Isolation, scenario: Scenario, name: str, said: str
) -> None:
    with pytest.raises(ContractError, match=said) as failed:
        conducted(isolation, scenario, name)
    assert len(str(failed.value)) < 600
    conducted(isolation, scenario, "SetsItsSteps")  # others go on


def test_the_budget_is_counted_by_the_harness(isolation: Isolation, scenario: Scenario) -> None:
    """An agent that sets its own count to zero, and ignores that the budget is spent, plays no step more."""
    with isolation.agent("escaping_agents:SetsItsSteps", scenario.spec, {}, 3) as agent:
        _, _, steps = trained(agent, scenario, budget=500)
    assert 0 < steps <= 500


def test_an_isolated_run_makes_the_same_results(tmp_path: Path) -> None:
    """Its learning curve too, which a copy of the agent earns in yet another process."""
    run, made = toy_run(make_scenario(tmp_path), "Learner"), []
    for number, one in enumerate((run, replace(run, isolated=True))):
        store = Store(tmp_path / f"run{number}")
        evaluation = execute(one, store, lambda *_: None)
        assert evaluation.error is None
        made.append(
            (store.weights_path(one.key("train")).read_bytes(), replace(evaluation, sources={}).to_json())
        )
    assert made[0] == made[1]
    assert made[0][1]["training"]["learning_curve"]


@pytest.mark.usefixtures("no_figures")
def test_the_code_of_an_isolated_agent_is_imported_nowhere_else(tmp_path: Path) -> None:
    """Its module would change what the harness counts, in whatever process imports it."""
    suite = make_suite(tmp_path, {})
    code, _, errors = run_here(
        "score", "meddling_agent:Meddler", "--suite", suite, "--out", tmp_path / "out",
        "--submissions", tmp_path / "made", "--workers", 1, "--isolated",
    )  # fmt: skip
    assert "meddling_agent" not in sys.modules
    assert code == 0, errors
    (made,) = (tmp_path / "made").iterdir()
    assert all(
        evaluation.error is None and np.abs(evaluation.curves["test"].returns).max() < 100
        for evaluation in Entry.load(made, suite).evaluations.values()
    )


def test_isolated_runs_have_keys_of_their_own(tmp_path: Path) -> None:
    run = toy_run(make_scenario(tmp_path), "Learner", gain=0.5)
    isolated = replace(run, isolated=True)
    assert run.settings == isolated.settings
    assert run.key("train") != isolated.key("train")
    assert Run.from_json(isolated.to_json()) == isolated
