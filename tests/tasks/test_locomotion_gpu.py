"""MuJoCo Warp agrees with MuJoCo: tested on a GPU if there is one, and slowly on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco")
pytest.importorskip("gymnasium")
pytest.importorskip("mujoco_warp", reason="needs the extra [gpu]")

from mrl_tasks.locomotion import Locomotion
from mrl_tasks.locomotion.environment import LocomotionEnv
from mrl_tasks.locomotion.gpu import WarpSimulation
from mrl_tasks.locomotion.robots import ROBOTS

from mrl_bench.errors import UsageError
from mrl_bench.types import TaskBatch

CPU = torch.device("cpu")
DEVICES = [
    pytest.param("cpu", marks=pytest.mark.slow, id="cpu"),  # compiles for more than a minute
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"), id="cuda"
    ),
]


def distinct_tasks(family: Locomotion) -> TaskBatch:
    """Four tasks: as built; other masses and friction; also other limbs; also a disabled joint."""
    rng, names = np.random.default_rng(0), tuple(family.params)
    values = np.tile([param.default for param in family.params.values()], (4, 1))
    for i, name in enumerate(names):
        stem = name.partition("[")[0]
        if stem in (
            "body_mass",
            "body_inertia",
            "geom_friction",
            "joint_damping",
            "actuator_gear",
            "gravity",
        ):
            values[1:, i] *= rng.uniform(0.8, 1.25, 3)
        if stem == "limb_length":
            values[2:, i] = rng.uniform(0.9, 1.1)
        if stem == "crippled_joint":
            values[3, i] = 1.0
    return TaskBatch(names, values)


def warp_env(family: Locomotion, tasks: TaskBatch, episodes: int, device: str) -> LocomotionEnv:
    simulation = WarpSimulation(family.body, tasks, episodes, torch.device(device))
    return LocomotionEnv(family, tasks, np.ones(len(tasks), dtype=bool), episodes, simulation, torch.float32)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["hopper", "half_cheetah"])
def test_worlds_with_distinct_physics_agree_with_the_cpu(name: str, device: str) -> None:
    options = {"terminates": False} if name == "hopper" else {}  # the cheetah never terminates
    family = Locomotion(robot=name, cone="elliptic", solver="Newton", **options)
    tasks, rng = distinct_tasks(family), np.random.default_rng(0)
    env, expected = warp_env(family, tasks, 2, device), family.make(tasks, 2, CPU, torch.float64)
    np.testing.assert_allclose(env.reset(0).cpu(), expected.reset(0), atol=1e-5)
    for _ in range(5):
        action = torch.tensor(rng.uniform(-1, 1, (4, 2, family.spec.act_dim)))
        step, known = env.step(action.to(device)), expected.step(action)
        np.testing.assert_allclose(step.obs.cpu(), known.obs, atol=1e-3)
        np.testing.assert_allclose(step.reward.cpu(), known.reward, atol=1e-3)
        assert not step.failed.any()


@pytest.mark.parametrize("device", DEVICES)
def test_a_world_that_breaks_down_is_flagged_and_does_not_change(device: str) -> None:
    family = Locomotion(robot="hopper", cone="elliptic")
    env = warp_env(family, distinct_tasks(family), 1, device)
    env.reset(0)
    action = torch.zeros(4, 1, 3, device=device)
    action[1] = torch.nan
    assert env.step(action).failed.flatten().tolist() == [False, True, False, False]
    before = env.observation()
    after = env.step(torch.zeros_like(action)).obs
    assert torch.equal(before[1].nan_to_num(), after[1].nan_to_num())
    assert not torch.equal(before[0], after[0])
    env.reset(1)
    assert not env.step(torch.zeros_like(action)).failed.any()


def test_a_solver_that_warp_lacks_is_rejected() -> None:
    family = Locomotion(robot="humanoid")
    with pytest.raises(UsageError, match="solver: Newton"):
        WarpSimulation(ROBOTS["humanoid"], distinct_tasks(family), 1, CPU)
