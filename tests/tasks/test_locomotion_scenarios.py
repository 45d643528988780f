"""The locomotion scenarios run, and those with a published name have the published sizes."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("mujoco")
pytest.importorskip("gymnasium")

from mrl_bench.scenario import find_scenario, list_scenarios

ROBOTS = ("cheetah", "ant", "walker", "hopper", "humanoid", "swimmer")
SCENARIOS = [name for name in list_scenarios() if name.startswith(ROBOTS)]


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_runs_in_each_split(name: str) -> None:
    scenario = find_scenario(name)
    for split in scenario.splits:
        tasks = scenario.tasks(split, None if scenario.splits[split].count else 20)
        env = scenario.family.make(tasks, 1, torch.device("cpu"))
        assert env.reset(0).isfinite().all()
        for _ in range(5):
            step = env.step(torch.rand(len(tasks), 1, scenario.family.spec.act_dim) * 2 - 1)
            assert step.obs.isfinite().all()
            assert not step.failed.any()


@pytest.mark.parametrize(
    ("name", "obs_dim", "horizon", "dt"),
    [
        ("cheetah-dir-promp-v1", 17, 100, 0.05),
        ("cheetah-vel-promp-v1", 17, 200, 0.05),
        ("cheetah-vel-pearl-v1", 20, 200, 0.05),
        ("ant-dir-pearl-v1", 27, 200, 0.05),
        ("humanoid-dir-pearl-v1", 270, 200, 0.015),
        ("walker-params-pearl-v1", 17, 200, 0.016),
        ("hopper-params-pearl-v1", 11, 200, 0.016),
    ],
)
def test_a_published_task_has_its_published_sizes(name: str, obs_dim: int, horizon: int, dt: float) -> None:
    spec = find_scenario(name).family.spec
    assert (spec.obs_dim, spec.horizon, round(spec.dt, 9)) == (obs_dim, horizon, dt)
