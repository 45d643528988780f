"""Each parameter has its documented effect on the instances of its task, and on no others."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

pytest.importorskip("mujoco")
pytest.importorskip("gymnasium")

from mrl_tasks.locomotion import Locomotion
from mrl_tasks.locomotion import family as family_module
from mrl_tasks.locomotion import robots as robots_module
from mrl_tasks.locomotion.environment import LocomotionEnv
from mrl_tasks.locomotion.models import as_built
from mrl_tasks.locomotion.physics import model_fields
from mrl_tasks.locomotion.robots import ROBOTS

from mrl_bench.errors import MissingPart, UsageError
from mrl_bench.types import Ratio, TaskBatch

CPU = torch.device("cpu")
every_robot = pytest.mark.parametrize("name", ROBOTS)


def tasks_of(
    family: Locomotion, values: NDArray[np.float64] | None = None, **columns: float | list[float]
) -> TaskBatch:
    """Tasks with these values, or default tasks except for some columns."""
    names = tuple(family.params)
    if values is None:
        count = max((len(np.atleast_1d(column)) for column in columns.values()), default=1)
        values = np.tile([param.default for param in family.params.values()], (count, 1))
    for name, column in columns.items():
        values[:, names.index(name)] = column
    return TaskBatch(names, values)


def random_tasks(family: Locomotion, count: int, seed: int = 0) -> TaskBatch:
    """Tasks that differ in all parameters but the limb lengths."""
    rng = np.random.default_rng(seed)
    tasks = tasks_of(family, np.tile([param.default for param in family.params.values()], (count, 1)))
    for i, (name, param) in enumerate(family.params.items()):
        if param.values:
            tasks.values[:, i] = rng.choice(param.values, count)
        elif not name.startswith("limb_length"):
            spread = 0.3 * min(param.high - param.default, param.default - param.low)
            tasks.values[:, i] += rng.uniform(-spread, spread, count)
    return tasks


def actions(family: Locomotion, steps: int, shape: tuple[int, int] = (1, 1), seed: int = 0) -> Tensor:
    """(T, B, E, A). The actions of a flat instance index do not depend on the number of instances."""
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(-1, 1, (64, 256, family.spec.act_dim))
    index = np.arange(shape[0] * shape[1]).reshape(shape)
    return torch.tensor(drawn[:steps, index])


def play(env: LocomotionEnv, actions: Tensor, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Observations (T + 1, B, E, O), rewards (T, B, E), and which instances were alive before each step (T, B, E)."""
    obs, rewards, lives = [env.reset(seed)], [], []
    alive = torch.ones(obs[0].shape[:2], dtype=torch.bool)
    for action in actions:
        step = env.step(action)
        obs.append(step.obs)
        rewards.append(step.reward)
        lives.append(alive)
        alive = alive & ~step.terminated & ~step.failed
    return torch.stack(obs), torch.stack(rewards), torch.stack(lives)


def played(family: Locomotion, tasks: TaskBatch, actions: Tensor) -> tuple[Tensor, Tensor]:
    env = family.make(tasks, actions.shape[2], CPU, torch.float64)
    obs, rewards, _ = play(env, actions)
    return obs, rewards


# --- Parameters


@every_robot
@pytest.mark.parametrize("task", ["forward", "velocity", "direction", "heading", "goal"])
def test_every_parameter_changes_trajectory_or_reward(name: str, task: str) -> None:
    if task in ("heading", "goal") and ROBOTS[name].root.place < 2:
        with pytest.raises(UsageError, match="can turn"):
            Locomotion(robot=name, task=task)
        return
    family = Locomotion(robot=name, task=task, reset_noise=0.0)  # all tasks have the same initial state
    physics = Locomotion(robot=name).params  # checked once, for the task "forward"
    checked = {key: param for key, param in family.params.items() if task == "forward" or key not in physics}
    rows = [
        (key, value)
        for key, param in checked.items()
        for value in (param.low, param.high, *(() if param.values else (0.7 * param.low + 0.3 * param.high,)))
    ]  # not only the bounds: the largest and the smallest heading are the same direction
    default = [param.default for param in family.params.values()]
    tasks = tasks_of(family, np.tile(default, (1 + len(rows), 1)))
    for row, (key, value) in enumerate(rows, start=1):
        tasks.values[row, tasks.names.index(key)] = value
    shared = actions(family, 40, (1, 1)).expand(-1, len(tasks), -1, -1)
    obs, rewards, alive = play(family.make(tasks, 1, CPU, torch.float64), shared)
    changed = ((obs[1:] != obs[1:, :1]).any(-1) | (rewards != rewards[:, :1])) & alive & alive[:, :1]
    effect = dict.fromkeys(checked, False)
    for (key, _), differs in zip(rows, changed.any(0).any(-1)[1:].tolist(), strict=True):
        effect[key] |= differs
    assert [key for key, alive in effect.items() if not alive] == []


@every_robot
def test_physics_of_one_task_do_not_affect_the_next(name: str) -> None:
    family = Locomotion(robot=name)
    acts = actions(family, 20)
    first = played(family, tasks_of(family), acts)
    changed = random_tasks(family, 1)
    changed.values[:, changed.names.index(f"limb_length[{ROBOTS[name].limbs[-1]}]")] = 1.3
    twice = [played(family, changed, acts) for _ in range(2)]
    again = played(family, tasks_of(family), acts)
    assert torch.equal(twice[0][0], twice[1][0])
    assert not torch.equal(first[0], twice[0][0])
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other)


def test_slope_and_tilt_lean_gravity() -> None:
    family = Locomotion(robot="ant")
    tasks = tasks_of(
        family, gravity=[9.0, 9.0, 9.0], terrain_slope=[0.1, 0.0, 0.1], gravity_tilt=[0.0, 0.2, 0.2]
    )
    expected = [
        [-9 * math.sin(0.1), 0, -9 * math.cos(0.1)],  # uphill along +x is downhill along -x
        [0, 9 * math.sin(0.2), -9 * math.cos(0.2)],
        [-9 * math.sin(0.1), 9 * math.cos(0.1) * math.sin(0.2), -9 * math.cos(0.1) * math.cos(0.2)],
    ]
    gravity = model_fields(family.body, as_built(family.body), tasks)["opt.gravity"]
    np.testing.assert_allclose(gravity, expected, atol=1e-15)
    np.testing.assert_allclose(np.linalg.norm(gravity, axis=1), 9.0)


def test_a_delay_of_two_steps_is_the_same_actions_two_steps_later() -> None:
    family = Locomotion(robot="half_cheetah")
    acts = actions(family, 12)
    late = torch.cat([torch.zeros_like(acts[:2]), acts[:-2]])
    delayed = played(family, tasks_of(family, action_delay=2.0), acts)
    for one, other in zip(delayed, played(family, tasks_of(family), late), strict=True):
        assert torch.equal(one, other)


def test_each_task_has_its_own_delay_and_a_reset_drops_delayed_actions() -> None:
    family = Locomotion(robot="hopper")
    acts = actions(family, 10, (3, 1))
    env = family.make(tasks_of(family, action_delay=[0.0, 3.0, 1.0]), 1, CPU, torch.float64)
    first, second = play(env, acts), play(env, acts)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
    shared = played(family, tasks_of(family, action_delay=[3.0, 3.0, 3.0]), acts)
    assert torch.equal(first[0][:, 1], shared[0][:, 1])
    assert not torch.equal(first[0][:, 2], shared[0][:, 2])


def test_a_shift_by_half_swaps_the_actions_of_hind_and_front_legs() -> None:
    family = Locomotion(robot="half_cheetah")
    acts = actions(family, 10)
    swapped = played(family, tasks_of(family, actuator_shift=3.0), acts)
    for one, other in zip(swapped, played(family, tasks_of(family), acts.roll(3, -1)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("how", ["joint_disabled[bshin]", "crippled_joint"])
def test_a_disabled_joint_gives_no_torque_and_costs_nothing(how: str) -> None:
    family = Locomotion(robot="half_cheetah")
    acts = actions(family, 10)
    still = acts.clone()
    still[..., 1] = 0.0
    value = 1.0 if how.startswith("joint") else 2.0  # bshin is the second actuator
    disabled = played(family, tasks_of(family, **{how: value}), acts)
    for one, other in zip(disabled, played(family, tasks_of(family), still), strict=True):
        assert torch.equal(one, other)


def test_a_crippled_leg_of_the_ant_has_two_disabled_joints_and_is_smaller() -> None:
    family = Locomotion(robot="ant")
    disabled_joints = {"joint_disabled[hip_2]": 1.0, "joint_disabled[ankle_2]": 1.0}
    acts = actions(family, 10)
    crippled, disabled = (
        played(family, tasks_of(family, **c), acts) for c in ({"crippled_leg": 2.0}, disabled_joints)
    )
    assert torch.equal(crippled[1][:3], disabled[1][:3])  # while in the air
    assert not torch.equal(crippled[0], disabled[0])


def test_a_gear_of_minus_one_is_a_reversed_motor() -> None:
    family = Locomotion(robot="walker2d")
    acts = actions(family, 10)
    mirrored = acts.clone()
    mirrored[..., 2] *= -1
    backwards = played(family, tasks_of(family, **{"actuator_gear[foot_joint]": -1.0}), acts)
    assert torch.equal(backwards[0], played(family, tasks_of(family), mirrored)[0])


def test_a_delay_that_is_not_a_whole_number_is_rejected() -> None:
    family = Locomotion()
    with pytest.raises(UsageError, match="action_delay must be one of"):
        family.make(tasks_of(family, action_delay=0.5), 1, CPU)


# --- Rewards, observations, initial states


def test_reward_of_velocity_direction_and_forward() -> None:
    for task, goal, progress in (
        ("forward", {}, lambda v: v),
        ("velocity", {"target_velocity": 2.0}, lambda v: -(v - 2.0).abs()),
        ("direction", {"direction": -1.0}, lambda v: -v),
    ):
        family = Locomotion(robot="half_cheetah", task=task, control_cost=0.05, observe_place=True)
        acts = actions(family, 15)
        obs, rewards = played(family, tasks_of(family, **goal), acts)
        velocity = obs[:, 0, 0, 0].diff() / 0.05
        expected = progress(velocity) - 0.05 * acts[:, 0, 0].square().sum(-1)
        torch.testing.assert_close(rewards[:, 0, 0], expected, rtol=0, atol=1e-12)


def test_reward_of_heading_and_goal() -> None:
    options = {
        "robot": "ant",
        "observe_torso": True,
        "control_cost": 0.1,
        "healthy_reward": 0.0,
        "terminates": False,
    }
    heading, goal = Locomotion(task="heading", **options), Locomotion(task="goal", **options)
    acts = actions(heading, 15)
    cost = 0.1 * acts[:, 0, 0].square().sum(-1)
    obs, rewards = played(heading, tasks_of(heading, heading=math.pi / 2), acts)
    torch.testing.assert_close(rewards[:, 0, 0], obs[:, 0, 0, -2].diff() / 0.05 - cost, rtol=0, atol=1e-12)
    obs, rewards = played(goal, tasks_of(goal, goal_x=1.0, goal_y=-2.0), acts)
    distance = (obs[1:, 0, 0, -3] - 1.0).abs() + (obs[1:, 0, 0, -2] + 2.0).abs()
    torch.testing.assert_close(rewards[:, 0, 0], -distance - cost, rtol=0, atol=1e-12)


def test_options_change_time_step_and_observation() -> None:
    assert Locomotion(robot="walker2d", timestep=0.004, frame_skip=4).spec.dt == 0.016
    assert Locomotion(robot="half_cheetah", observe_torso=True).spec.obs_dim == 20
    assert Locomotion(robot="ant", observe_place=True).spec.obs_dim == 29
    euler, shipped = Locomotion(robot="hopper", integrator="Euler"), Locomotion(robot="hopper")
    acts = actions(shipped, 10)
    one, other = (played(family, tasks_of(family), acts)[0] for family in (euler, shipped))
    assert not torch.equal(one, other)
    assert (one - other)[:4].abs().max() < 1e-2


def test_options_define_when_a_robot_is_healthy() -> None:
    acts = actions(Locomotion(robot="hopper"), 60)
    for options, ends in (
        ({}, True),
        ({"terminates": False}, False),
        ({"healthy_height": (1.24, 1.26)}, True),
    ):
        family = Locomotion(robot="hopper", **options)
        *_, alive = play(family.make(tasks_of(family), 1, CPU), acts)
        assert alive.all().item() is not ends
    assert alive.sum() < 20


@pytest.mark.parametrize("name", ["hopper", "walker2d"])
def test_a_fall_is_an_episode_that_terminated(name: str) -> None:
    family = Locomotion(robot=name)
    env = family.make(tasks_of(family, action_delay=[0.0] * 4), 2, CPU)
    assert env.reported == {"fall rate": Ratio("falls", low=0.0, high=1.0)}
    env.reset(0)
    fallen, counts = torch.zeros(4, 2, dtype=torch.bool), set()
    for action in actions(family, 60, (4, 2)):
        assert env.metrics()["falls"].tolist() == fallen.float().tolist()
        fallen |= env.step(action).terminated
        counts.add(int(fallen.sum()))
    assert len(counts) > 2  # they fall in different steps
    env.reset(1)
    assert not env.metrics()["falls"].any()


@pytest.mark.parametrize(
    "options", [{"robot": "half_cheetah"}, {"robot": "swimmer"}, {"robot": "hopper", "terminates": False}]
)
def test_a_robot_whose_episodes_cannot_terminate_has_no_falls(options: dict[str, Any]) -> None:
    family = Locomotion(**options)
    env = family.make(tasks_of(family), 1, CPU)
    env.reset(0)
    assert env.metrics() == env.reported == {}


@every_robot
def test_initial_states_are_distributed_as_in_gymnasium_and_keyed_by_seed_and_instance(name: str) -> None:
    family = Locomotion(robot=name)
    robot = family.body
    many, few = (family.make(tasks_of(family, action_delay=[0.0] * b), e, CPU) for b, e in ((40, 10), (2, 3)))
    assert torch.equal(many.reset(7)[:2, :3], few.reset(7))
    assert not torch.equal(many.reset(8)[:2, :3], few.reset(7))
    many.reset(7)
    noise = (many.simulation.state - many.simulation.rest) / robot.reset_noise
    position, velocity = noise[:, : robot.positions], noise[:, robot.positions :]
    assert 0.98 < position.abs().max() <= 1.0
    assert abs(position.std() - 1 / math.sqrt(3)) < 0.02
    assert abs(velocity.std() - (1.0 if robot.gaussian_velocities else 1 / math.sqrt(3))) < 0.03


# --- Environment instances


@every_robot
@pytest.mark.parametrize("limbs", [False, True], ids=["fields", "limbs"])
def test_an_instance_is_the_same_alone_and_among_255_others(name: str, limbs: bool) -> None:
    family = Locomotion(robot=name, task="velocity")
    tasks, acts = random_tasks(family, 64, seed=int(limbs)), actions(family, 12, (64, 4))
    if limbs:  # then the batch has one model per task, but the first task alone has none
        lengths = [i for i, param in enumerate(tasks.names) if param.startswith("limb_length")]
        tasks.values[1:, lengths] = np.random.default_rng(0).uniform(0.9, 1.2, (63, len(lengths)))
    obs, rewards = played(family, tasks, acts)
    alone = played(family, TaskBatch(tasks.names, tasks.values[:1]), acts[:, :1, :1])
    assert torch.equal(alone[0], obs[:, :1, :1])
    assert torch.equal(alone[1], rewards[:, :1, :1])


@every_robot
def test_the_number_of_threads_changes_no_bit(name: str) -> None:
    family = Locomotion(robot=name)
    tasks, acts = random_tasks(family, 16), actions(family, 10, (16, 4))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(play(family.make(tasks, 4, CPU, torch.float64), acts))
    finally:
        torch.set_num_threads(before)
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


def test_an_ended_instance_is_not_simulated() -> None:
    family = Locomotion(robot="hopper")
    env = family.make(tasks_of(family), 32, CPU)
    play(env, actions(family, 60, (1, 32)))
    before = env.simulation.state.clone()
    assert not env.step(torch.zeros(1, 32, 3)).failed.any()
    ended = ~env.is_healthy()
    assert ended.any()
    assert torch.equal(env.simulation.state[ended], before[ended])


def test_observations_have_the_requested_dtype_and_new_memory() -> None:
    family = Locomotion(robot="humanoid")
    for dtype in (torch.float32, torch.float64):
        env = family.make(tasks_of(family), 2, CPU, dtype)
        first = env.reset(0)
        kept = first.clone()
        step = env.step(torch.ones(1, 2, 17))
        assert first.dtype == step.obs.dtype == step.reward.dtype == dtype
        assert torch.equal(first, kept)
        assert not torch.equal(step.obs, kept)


@pytest.mark.parametrize("package", ["mujoco", "gymnasium"])
def test_a_missing_part_says_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> object:
        return None if name == package else importlib.util.find_spec(name)

    for module in (family_module, robots_module):
        monkeypatch.setattr(module, "find_spec", find)
    family = Locomotion(robot="hopper", control_cost=0.123)  # an uncached model
    with pytest.raises(MissingPart, match="pip install"):
        family.make(tasks_of(family), 1, CPU)


def test_declaring_imports_neither_torch_nor_a_simulator() -> None:
    code = (
        "import sys; from mrl_tasks.locomotion import Locomotion as L; f = L(robot='humanoid'); "
        "f.params, f.spec, f.simulator; print({'torch', 'mujoco', 'gymnasium'} & {*sys.modules})"
    )
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=path)
    assert child.stdout.strip() == "set()"
    assert Locomotion().simulator.startswith("mujoco ")
