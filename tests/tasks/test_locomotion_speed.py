"""Physics that explode without a warning of MuJoCo fail, and nothing else does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco")
pytest.importorskip("gymnasium")

from mrl_tasks.locomotion import Locomotion
from mrl_tasks.locomotion.models import as_built
from mrl_tasks.locomotion.robots import MAX_SPEED, ROBOTS
from torch import Generator, Tensor

from mrl_bench.family import TaskFamily, reward_range
from mrl_bench.scenario import find_scenario, list_scenarios
from mrl_bench.types import Step, TaskBatch

CPU = torch.device("cpu")
every_robot = pytest.mark.parametrize("name", ROBOTS)
SCENARIOS = [name for name in list_scenarios() if isinstance(find_scenario(name).family, Locomotion)]
Push = Callable[[tuple[int, int, int], Generator], Tensor]


def saturating(shape: tuple[int, int, int], rng: Generator) -> Tensor:
    return 2.0 * torch.randint(2, shape, generator=rng) - 1.0


def uniform(shape: tuple[int, int, int], rng: Generator) -> Tensor:
    return 2.0 * torch.rand(shape, generator=rng) - 1.0


def corner_tasks(family: Locomotion, count: int, seed: int) -> TaskBatch:
    """Tasks at corners of the legal box: half in all parameters, half in a few; the others are at their defaults."""
    rng, params = np.random.default_rng(seed), family.params.values()
    default = np.array([param.default for param in params])
    values = np.stack([rng.choice(param.values or (param.low, param.high), count) for param in params], 1)
    few = (np.arange(count)[:, None] % 2 == 1) & (rng.random(values.shape) > 0.1)
    return TaskBatch(tuple(family.params), np.where(few, default, values))


def play(family: TaskFamily, tasks: TaskBatch, push: Push, steps: int) -> Iterator[tuple[Step, Tensor]]:
    """The control steps of an episode on each task, and which of them are valid, (B, E)."""
    env, rng = family.make(tasks, 1, CPU), torch.Generator().manual_seed(0)
    env.reset(0)
    alive = torch.ones(len(tasks), 1, dtype=torch.bool)
    for _ in range(steps):
        step = env.step(push((len(tasks), 1, family.spec.act_dim), rng))
        yield step, alive & ~step.failed
        alive &= ~(step.terminated | step.failed)
    env.close()


@every_robot
def test_the_limit_is_out_of_a_robots_reach(name: str) -> None:
    """A motor that turns nothing but its own rotor, through the whole range of its joint; and a slide of 50 s."""
    robot = ROBOTS[name]
    model, params = as_built(robot), Locomotion(robot=name).params
    joints = model.actuator_trnid[:, 0]
    assert model.jnt_limited[joints].all()
    gear = params[f"actuator_gear[{robot.actuators[0]}]"].high
    torque = gear * robot.control_limit * np.abs(model.actuator_gear[:, 0])
    work = torque * np.ptp(model.jnt_range[joints], axis=1)
    assert np.sqrt(2 * work / model.dof_armature[model.jnt_dofadr[joints]]).max() < 0.5 * MAX_SPEED
    if "gravity" in params:
        assert params["gravity"].high * math.sin(params["terrain_slope"].high) * 50 < MAX_SPEED


@every_robot
@pytest.mark.parametrize("options", [{}, {"timestep": 0.05}, {"timestep": 0.1, "frame_skip": 20}], ids=str)
@pytest.mark.parametrize("push", [saturating, uniform])
def test_no_corner_of_the_parameters_pays_more_than_the_family_says(
    name: str, options: dict[str, Any], push: Push
) -> None:
    family = Locomotion(robot=name, **options)
    low, high = reward_range(family)
    for step, valid in play(family, corner_tasks(family, 40, seed=1), push, 40):
        paid = step.reward[valid]
        assert ((low <= paid) & (paid <= high)).all()


def test_an_explosion_without_a_warning_fails() -> None:
    """Long time steps: some of these rewards are in the millions, and MuJoCo is content."""
    family = Locomotion(robot="half_cheetah", timestep=0.05)
    tasks = corner_tasks(family, 40, seed=1)
    steps = list(play(family, tasks, saturating, 40))
    wild = [step.failed[step.reward.abs() > 2 * MAX_SPEED] for step, _ in steps]
    assert len(torch.cat(wild)) > 0
    assert torch.cat(wild).all()


@every_robot
@pytest.mark.parametrize("coordinate", ["root", "hinge"])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_speed_beyond_the_limit_fails_and_one_within_does_not(
    name: str, coordinate: str, sign: float
) -> None:
    family = Locomotion(robot=name)
    tasks = TaskBatch(tuple(family.params), np.array([[p.default for p in family.params.values()]] * 3))
    env, still = family.make(tasks, 1, CPU), torch.zeros(3, 1, family.spec.act_dim)
    env.reset(0)
    robot = ROBOTS[name]
    index = robot.positions + (0 if coordinate == "root" else robot.root.velocities)
    env.simulation.state[1, index] = sign * 1e6
    assert env.step(still).failed.flatten().tolist() == [False, True, False]
    env.reset(0)
    env.simulation.state[1, index] = sign * 5.0
    assert not env.step(still).failed.any()


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_task_of_a_scenario_is_flagged(name: str) -> None:
    scenario = find_scenario(name)
    for split in ("test", "ood"):
        if split in scenario.splits:
            for step, _ in play(scenario.family, scenario.tasks(split), saturating, 30):
                assert not step.failed.any()
