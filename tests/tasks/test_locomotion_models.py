"""The robots equal Gymnasium's bit for bit, and batches with distinct physics equal single MuJoCo models."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco")
pytest.importorskip("gymnasium.envs.mujoco")

import gymnasium
import mujoco
from gymnasium.envs.mujoco import MujocoEnv
from mrl_tasks.locomotion import Locomotion
from mrl_tasks.locomotion.cpu import CpuSimulation, quiet
from mrl_tasks.locomotion.models import as_built, rebuilt, rest_state
from mrl_tasks.locomotion.robots import ROBOTS, Robot, model_path

from mrl_bench.types import TaskBatch

CPU = torch.device("cpu")
GYMNASIUM = {
    "half_cheetah": "HalfCheetah-v5",
    "ant": "Ant-v5",
    "walker2d": "Walker2d-v5",
    "hopper": "Hopper-v5",
    "humanoid": "Humanoid-v5",
    "swimmer": "Swimmer-v5",
}
every_robot = pytest.mark.parametrize("name", GYMNASIUM)


def tasks_of(family: Locomotion, count: int = 1, **columns: np.ndarray) -> TaskBatch:
    """Default tasks except for some columns. A column named `stem` holds all entries `stem[...]`."""
    names = tuple(family.params)
    values = np.tile([param.default for param in family.params.values()], (count, 1))
    for stem, column in columns.items():
        entries = [i for i, name in enumerate(names) if name.partition("[")[0] == stem]
        values[:, entries] = np.reshape(column, (count, -1))
    return TaskBatch(names, values)


def shipped_model(robot: Robot) -> mujoco.MjModel:
    """The model of the XML file, without our changes for speed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # half_cheetah.xml has a deprecated attribute
        return mujoco.MjSpec.from_file(str(model_path(robot))).compile()


@pytest.fixture
def peer(name: str) -> Iterator[MujocoEnv]:
    options = {"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0.0}
    with quiet():  # half_cheetah.xml would leave a MUJOCO_LOG.TXT behind
        env = gymnasium.make(GYMNASIUM[name], **(options if name in ("ant", "humanoid") else {})).unwrapped
    assert isinstance(env, MujocoEnv)
    yield env
    env.close()


@every_robot
def test_500_steps_equal_those_of_gymnasium(name: str, peer: MujocoEnv) -> None:
    family = Locomotion(robot=name)
    env = family.make(tasks_of(family), 1, CPU, torch.float64)
    robots, limit = env.simulation, family.body.control_limit
    rng = np.random.default_rng(0)
    episodes = 0

    def restart() -> None:
        nonlocal episodes
        episodes += 1
        obs = env.reset(episodes)
        mujoco.mj_resetData(peer.model, peer.data)
        peer.set_state(*np.split(robots.state[0].numpy(), [peer.model.nq]))
        np.testing.assert_allclose(obs[0, 0], peer._get_obs(), rtol=0, atol=1e-12)

    restart()
    for _ in range(500):
        action = rng.uniform(-1, 1, family.spec.act_dim)
        step = env.step(torch.tensor(action)[None, None])
        obs, reward, terminated, *_ = peer.step(action * limit)
        np.testing.assert_array_equal(robots.state[0], peer.state_vector())
        np.testing.assert_allclose(step.obs[0, 0], obs, rtol=0, atol=1e-12)
        assert step.reward.item() == pytest.approx(reward, rel=0, abs=1e-12)
        assert step.terminated.item() == terminated
        assert not step.failed.item()
        if terminated:
            restart()
    assert episodes > 10 or name in ("half_cheetah", "ant", "swimmer")


@every_robot
def test_the_table_of_robots_agrees_with_gymnasium(name: str, peer: MujocoEnv) -> None:
    robot, model = ROBOTS[name], peer.model

    def named(kind: str, count: int) -> list[str]:
        return [getattr(model, kind)(i).name for i in range(count)]

    joints = named("joint", model.njnt)
    bodies = [own or joints[model.body_jntadr[i]] for i, own in enumerate(named("body", model.nbody))]
    assert bodies == ["world", *robot.bodies]
    assert joints[-len(robot.joints) :] == list(robot.joints)
    assert [joints[i] for i in model.actuator_trnid[:, 0]] == list(robot.actuators)
    assert (robot.positions, robot.velocities) == (model.nq, model.nv)
    assert set(robot.soles) <= set(named("geom", model.ngeom))
    assert robot.damped == model.dof_damping[robot.root.velocities :].all()
    assert (robot.timestep, robot.frame_skip) == (model.opt.timestep, peer.frame_skip)
    assert model.opt.integrator == getattr(mujoco.mjtIntegrator, f"mjINT_{robot.integrator.upper()}")
    assert (np.abs(model.actuator_ctrlrange) == robot.control_limit).all()
    assert robot.reset_noise == peer._reset_noise_scale
    assert Locomotion(robot=name).spec.obs_dim == peer.observation_space.shape[0]
    assert Locomotion(robot=name).spec.dt == peer.dt


@every_robot
def test_the_fast_model_differs_from_the_shipped_one_only_in_materials_and_contacts(name: str) -> None:
    shipped, fast = shipped_model(ROBOTS[name]), as_built(ROBOTS[name])
    same = (
        "dof_",
        "jnt_",
        "actuator_",
        "tendon_",
        "qpos",
        "body_mass",
        "body_inertia",
        "body_inv",
        "body_pos",
    )
    for field in dir(fast):
        if field.startswith(same) and isinstance(getattr(fast, field), np.ndarray):
            np.testing.assert_array_equal(getattr(fast, field), getattr(shipped, field), err_msg=field)
    assert fast.stat.meaninertia == shipped.stat.meaninertia  # the solver stops by it


@every_robot
def test_a_batch_with_distinct_physics_equals_a_loop_over_models(name: str) -> None:
    family, count, steps = Locomotion(robot=name), 8, 60
    robot, rng = family.body, np.random.default_rng(1)

    def scales(entries: int) -> np.ndarray:
        return rng.uniform(0.7, 1.4, (count, entries))

    mass, inertia, gear = scales(len(robot.bodies)), scales(len(robot.bodies)), scales(len(robot.actuators))
    columns = {"body_mass": mass, "body_inertia": inertia, "actuator_gear": gear}
    friction, damping, gravity = scales(len(robot.soles)), scales(len(robot.joints)), 9.81 * scales(1)
    leg = np.arange(count) % 5
    if robot.soles:
        columns |= {"geom_friction": friction, "joint_damping": damping, "gravity": gravity}
    if robot.legs:
        columns |= {"crippled_leg": leg}
    simulation = CpuSimulation(robot, tasks_of(family, count, **columns), 1, threads=2)
    start = simulation.rest + torch.tensor(rng.uniform(-0.01, 0.01, simulation.rest.shape))
    simulation.start(start)
    control = torch.tensor(
        rng.uniform(-robot.control_limit, robot.control_limit, (steps, count, len(robot.actuators)))
    )
    path = []
    for now in control:
        assert not simulation.advance(now, torch.ones(count, dtype=torch.bool)).any()
        path.append(simulation.state.numpy().copy())

    shipped = shipped_model(robot)
    for n in range(count):
        model = copy.copy(shipped)
        model.body_mass[1:] *= mass[n]
        model.body_inertia[1:] *= inertia[n, :, None]
        model.actuator_gear *= gear[n, :, None]
        if robot.soles:
            for sole, scale in zip(robot.soles, friction[n], strict=True):
                model.geom(sole).friction *= scale
            model.dof_damping[robot.root.velocities :] *= damping[n]
            model.opt.gravity = [0, 0, -gravity[n, 0]]
        if robot.legs and leg[n]:
            upper, lower = 3 * leg[n], 3 * leg[n] + 1
            model.geom_size[[upper, lower]] /= 2
            model.geom_pos[lower] = model.geom_pos[upper]
        data = mujoco.MjData(model)
        mujoco.mj_setConst(model, data)
        data.qpos[:], data.qvel[:] = np.split(start[n], [model.nq])
        mujoco.mj_forward(model, data)
        for t, now in enumerate(control[:, n].numpy().copy()):
            data.ctrl[:] = now
            mujoco.mj_step(model, data, robot.frame_skip)
            np.testing.assert_array_equal(path[t][n], np.hstack([data.qpos, data.qvel]))


def test_a_longer_limb_equals_a_model_edited_by_hand() -> None:
    robot = ROBOTS["hopper"]
    xml = model_path(robot).read_text()
    for written, longer in {
        '"0 0 -0.22500000000000009" name="thigh_geom"': '"0 0 -0.27" name="thigh_geom"',
        '"0.05 0.22500000000000003"': '"0.05 0.27"',
        '"leg" pos="0 0 -0.70000000000000007"': '"leg" pos="0 0 -0.79"',  # the knee is 0.25 above its origin
    }.items():
        assert written in xml
        xml = xml.replace(written, longer)
    expected, model = mujoco.MjModel.from_xml_string(xml), rebuilt(robot, {"thigh": 1.2})
    for field in ("body_mass", "body_inertia", "body_pos", "body_ipos", "geom_pos", "geom_size", "dof_M0"):
        np.testing.assert_allclose(getattr(model, field), getattr(expected, field), atol=1e-12, err_msg=field)
    np.testing.assert_allclose(rest_state(robot, model)[:6] - model.qpos0, [0, 0.09, 0, 0, 0, 0], atol=1e-12)


def test_a_longer_limb_changes_the_mass_of_its_body_only() -> None:
    robot = ROBOTS["half_cheetah"]  # whose file sets the total mass
    before, after = as_built(robot).body_mass, rebuilt(robot, {"bshin": 1.5}).body_mass
    assert before.sum() == pytest.approx(14.0)
    changed = {robot.bodies[i - 1] for i in np.flatnonzero(before != after)}
    assert changed == {"bshin"}


@every_robot
def test_unscaled_limbs_give_the_robot_as_built(name: str) -> None:
    family = Locomotion(robot=name)
    robot, living = family.body, torch.ones(2, dtype=torch.bool)
    lengths = np.ones((2, len(robot.limbs)))
    lengths[1] = 1.1  # so that each task gets its own model
    alone = CpuSimulation(robot, tasks_of(family), 1)
    batch = CpuSimulation(robot, tasks_of(family, 2, limb_length=lengths), 1)
    for simulation in (alone, batch):
        simulation.start(simulation.rest)
        for _ in range(20):
            control = 0.3 * torch.ones(len(simulation.rest), len(robot.actuators), dtype=torch.float64)
            simulation.advance(control, living[: len(control)])
    assert torch.equal(alone.state[0], batch.state[0])
    assert not torch.equal(batch.state[0], batch.state[1])
