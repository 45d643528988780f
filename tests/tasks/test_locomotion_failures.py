"""A simulation that breaks down flags its instance as failed in that step, and affects no other instance.

MuJoCo itself resets a bad state in the middle of an episode, continues, and only counts a warning.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco")
pytest.importorskip("gymnasium")

import mujoco
from mrl_tasks.locomotion import Locomotion
from mrl_tasks.locomotion.cpu import CpuSimulation, quiet
from mrl_tasks.locomotion.environment import LocomotionEnv
from mrl_tasks.locomotion.models import rebuilt
from mrl_tasks.locomotion.robots import ROBOTS

from mrl_bench.types import Step, TaskBatch

CPU = torch.device("cpu")
NAN, INF = float("nan"), float("inf")
every_robot = pytest.mark.parametrize("name", ROBOTS)


@pytest.fixture(autouse=True)
def _prints_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []  # no MUJOCO_LOG.TXT
    assert capfd.readouterr() == ("", "")
    assert mujoco.get_mju_user_warning() is None


def tasks_of(family: Locomotion, **bad: float) -> TaskBatch:
    """Three tasks; the second has these parameters. A stem stands for all its entries."""
    names = tuple(family.params)
    values = np.tile([param.default for param in family.params.values()], (3, 1))
    for stem, value in bad.items():
        values[1, [i for i, name in enumerate(names) if name.partition("[")[0] == stem]] = value
    return TaskBatch(names, values)


def make(family: Locomotion, **bad: float) -> LocomotionEnv:
    return family.make(tasks_of(family, **bad), 1, CPU, torch.float64)


def push(env: LocomotionEnv, strength: float = 1.0) -> Step:
    return env.step(torch.full((3, 1, len(env.robot.actuators)), strength))


@every_robot
@pytest.mark.parametrize(
    "parameter", ["body_mass", "actuator_gear", "limb_length", "joint_damping", "gravity"]
)
@pytest.mark.parametrize("value", [NAN, INF, -INF, 1e9, -1e9, -0.0])
def test_a_task_out_of_bounds_fails_in_the_first_step(name: str, parameter: str, value: float) -> None:
    family = Locomotion(robot=name)
    if parameter not in {param.partition("[")[0] for param in family.params}:
        pytest.skip(f"the {name} has no {parameter}")
    if value == 0 and parameter in ("actuator_gear", "joint_damping"):
        pytest.skip("0 is a legal value")
    env, healthy = make(family, **{parameter: value}), make(family)
    first = env.reset(0)
    assert torch.equal(first, healthy.reset(0))
    for _ in range(3):
        step, expected = push(env), push(healthy)
        assert step.failed.flatten().tolist() == [False, True, False]
        assert torch.equal(step.obs[[0, 2]], expected.obs[[0, 2]])
        assert torch.equal(step.reward[[0, 2]], expected.reward[[0, 2]])


@every_robot
@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("body_mass", 0.0),
        ("body_mass", -1.0),
        ("body_mass", NAN),
        ("body_inertia", NAN),
        ("joint_damping", -1e9),
        ("actuator_gear", 1e16),
        ("gravity", 1e16),
    ],
)
def test_physics_that_cause_a_mujoco_warning_fail_in_the_first_step(
    name: str, parameter: str, value: float
) -> None:
    family = Locomotion(robot=name)
    if name == "swimmer" and parameter in ("body_mass", "joint_damping", "gravity") and value == value:
        pytest.skip("the swimmer has neither damping nor weight, and its joints have armature")
    tasks, living = tasks_of(family, **{parameter: value}), torch.ones(3, dtype=torch.bool)
    broken_one, healthy = (CpuSimulation(family.body, each, 1) for each in (tasks, tasks_of(family)))
    for simulation in (broken_one, healthy):
        simulation.start(simulation.rest)
        control = torch.full((3, len(family.body.actuators)), 0.5, dtype=torch.float64)
        broken = simulation.advance(control, living)
        assert broken.tolist() == [False, simulation is broken_one, False]
    assert torch.equal(broken_one.state[[0, 2]], healthy.state[[0, 2]])


@every_robot
@pytest.mark.parametrize("coordinate", [0, -1])
@pytest.mark.parametrize("value", [NAN, INF, -INF, 1e12])
def test_a_bad_state_fails_and_the_next_episode_does_not(name: str, coordinate: int, value: float) -> None:
    env = make(Locomotion(robot=name))
    env.reset(0)
    push(env, 0.1)
    env.simulation.state[1, coordinate] = value
    assert push(env, 0.1).failed.flatten().tolist() == [False, True, False]
    assert not any(falls[1] for falls in env.metrics().values())  # it broke down, and did not fall
    env.reset(1)
    assert not push(env, 0.1).failed.any()


@every_robot
def test_a_nan_action_fails(name: str) -> None:
    env = make(Locomotion(robot=name))
    env.reset(0)
    action = torch.zeros(3, 1, len(env.robot.actuators))
    action[1, 0, 0] = NAN
    assert env.step(action).failed.flatten().tolist() == [False, True, False]


def test_a_state_that_turns_bad_in_the_last_time_step_fails_before_mujoco_sees_it() -> None:
    env = make(Locomotion(robot="half_cheetah"))  # five time steps of 0.01 s
    env.reset(0)
    env.simulation.state[1, [1, 10]] = torch.tensor([1e10 - 0.045 * 1e9, 1e9]).double()  # up and away
    step = push(env, 0.0)
    assert 1e10 < env.simulation.state[1, 1] < 1.1e10
    assert step.failed.flatten().tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("name", "damping"), [("half_cheetah", -2.0), ("walker2d", -60.0), ("walker2d", -150.0), ("ant", -150.0)]
)
def test_an_instance_fails_in_the_step_in_which_mujoco_resets_it(name: str, damping: float) -> None:
    """Negative damping makes the robot oscillate more and more."""
    robot, living = ROBOTS[name], torch.ones(3, dtype=torch.bool)
    simulation = CpuSimulation(robot, tasks_of(Locomotion(robot=name), joint_damping=damping), 1)
    start = simulation.rest.clone()
    start[1, robot.positions :] = torch.linspace(-0.1, 0.1, robot.velocities)
    simulation.start(start)
    still = torch.zeros(3, len(robot.actuators), dtype=torch.float64)
    model = rebuilt(robot, {})
    model.dof_damping *= damping
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = start[1].split([robot.positions, robot.velocities])
    step, bad = 0, False
    while not bad:
        step += 1
        with quiet():
            mujoco.mj_step(model, data, robot.frame_skip)
        was_reset = data.time < (step - 0.5) * robot.frame_skip * robot.timestep
        # MuJoCo resets such a large state in the next step.
        bad = was_reset or np.abs([*data.qpos, *data.qvel]).max() > 1e10
        assert simulation.advance(still, living).tolist() == [False, bad, False]
    assert step > 1
