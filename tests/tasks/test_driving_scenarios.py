"""The scenarios of driving, and what is measured in them beside the return."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from mrl_agents.uniform import RandomAgent
from mrl_tasks.driving.metrics import REPORTED

from mrl_bench.agent import MetaAgent
from mrl_bench.protocol.adaptation import evaluate
from mrl_bench.results import Curve
from mrl_bench.scenario import find_scenario, list_scenarios, privileged

CPU = torch.device("cpu")
DRIVING = [name for name in list_scenarios() if name.startswith("drive-")]


@pytest.mark.parametrize("oracle", [False, True])
@pytest.mark.parametrize("name", DRIVING)
def test_a_scenario_is_played_and_measured(name: str, oracle: bool) -> None:
    scenario = privileged(find_scenario(name)) if oracle else find_scenario(name)
    scenario = replace(
        scenario,
        protocol=replace(scenario.protocol, k=(0, scenario.protocol.episodes_per_round), scored_episodes=2),
    )
    agent: MetaAgent = RandomAgent(scenario.spec, RandomAgent.Config(), 0, CPU)
    curve = evaluate(agent, scenario, "ood", seed=0, device=CPU)
    assert (curve.failed == 0).all()
    assert set(curve.metrics) == {"driving_score", "success", "collisions", "distance"}
    for values in curve.metrics.values():
        assert values.shape == curve.returns.shape
    score, success = curve.metrics["driving_score"], curve.metrics["success"]
    assert 0.0 <= score.min() < score.max() <= 100.0
    assert (score[success == 1.0] == 100.0).all()
    assert curve.reported == REPORTED
    again = Curve.from_json(curve.to_json())
    np.testing.assert_array_equal(again.metrics["driving_score"], score)


def test_families_without_meters_measure_nothing() -> None:
    scenario = find_scenario("cartpole-wiring-v1")
    scenario = replace(scenario, protocol=replace(scenario.protocol, k=(0,), scored_episodes=2))
    agent: MetaAgent = RandomAgent(scenario.family.spec, RandomAgent.Config(), 0, CPU)
    assert evaluate(agent, scenario, "test", seed=0, device=CPU).metrics == {}


def test_unseen_events_are_events_that_training_never_shows() -> None:
    scenario = find_scenario("drive-events-v1")
    shown = {
        split: set(scenario.tasks(split, 48).column("event_kind").tolist())
        for split in ("train", "test", "ood")
    }
    assert shown["train"] == shown["test"]
    assert not shown["train"] & shown["ood"]
