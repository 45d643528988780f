"""The scenarios of driving, and what is measured in them beside the return."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mrl_agents.uniform import RandomAgent
from mrl_tasks.driving.metrics import REPORTED
from yaml_kit import edited, marked

from mrl_bench.agent import MetaAgent
from mrl_bench.errors import SourceError
from mrl_bench.protocol.adaptation import evaluate
from mrl_bench.results import Curve
from mrl_bench.scenario import find_scenario, list_scenarios, load_scenario, privileged

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


LONG = """\
id: long-v1
doc: A road and a horizon.
family: driving
horizon: 1200
options: {road: straight, keep_lane: true}
params: {mass: {uniform: [1200, 2000]}, target_speed: 8}
splits: {test: {count: 2, seed: 1}, ood: {count: 2, seed: 2, params: {mass: 2500, target_speed: 10}}}
budget: {meta_train: 40, blind: 40, oracle: 40}
"""
SHORT = "target_speed must be within 3 to 10.65 m/s, not {}: road straight has 639 m for 1200 control steps"
TOWN = "target_speed must be within 3 to 20 m/s, not 21: a stretch of lane in a town is as long as 20 m/s demands"


@pytest.mark.parametrize(
    ("message", "edits"),
    [
        (SHORT.format(12), {"target_speed: 8": "target_speed: ^^12"}),
        (SHORT.format("8 to 10.7"), {"target_speed: 8": "target_speed: {uniform: ^^[8, 10.7]}"}),
        (SHORT.format(11), {"target_speed: 10": "target_speed: ^^11"}),
        (
            "horizon must be lower, because target_speed is at least 3 m/s: road straight has 639 m for 5000",
            {"horizon: 1200": "horizon: ^^5000"},
        ),
        (
            TOWN,
            {"road: straight": "backend: carla, road: Town04", "target_speed: 10": "target_speed: ^^21"},
        ),
    ],
)
def test_a_road_that_is_too_short_is_refused(tmp_path: Path, message: str, edits: dict[str, str]) -> None:
    text, (line, column) = marked(edited(LONG, edits))
    path = tmp_path / "long-v1.yaml"
    path.write_text(text)
    with pytest.raises(SourceError) as refusal:
        load_scenario(path)
    assert message in str(refusal.value)
    assert f":{line}:{column}" in str(refusal.value)


@pytest.mark.parametrize(
    "edits",
    [
        {},
        {"straight": "loop", "speed: 10": "speed: 35"},
        {"horizon: 1200": "horizon: 300", "speed: 10": "speed: 35"},
    ],
)
def test_a_road_that_is_long_enough_is_not(tmp_path: Path, edits: dict[str, str]) -> None:
    path = tmp_path / "long-v1.yaml"
    path.write_text(edited(LONG, edits))
    assert load_scenario(path).tasks("ood").column("target_speed").max() in (10.0, 35.0)


def test_an_unset_target_speed_suits_the_road(tmp_path: Path) -> None:
    path = tmp_path / "long-v1.yaml"
    path.write_text(edited(LONG, {", target_speed: 8": "", ", target_speed: 10": ""}))
    assert load_scenario(path).tasks("test").column("target_speed").tolist() == [10.65, 10.65]
