"""Translates task parameters into fields of MuJoCo models, and into disabled actuators."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import mujoco
import numpy as np
from numpy.typing import NDArray

from mrl_bench.family import Param
from mrl_bench.types import TaskBatch
from mrl_tasks.locomotion.models import Limbs, pair_friction, rebuilt
from mrl_tasks.locomotion.robots import Robot

Array = NDArray[np.float64]
Fields = dict[str, Array]  # name of a field of MjModel, or "opt.<name>" of its options -> (B, ...)


def within_bounds(tasks: TaskBatch, params: Mapping[str, Param]) -> tuple[TaskBatch, NDArray[np.bool_]]:
    """The tasks, with defaults in place of tasks out of bounds; and which tasks are within bounds, (B,)."""
    declared = [params[name] for name in tasks.names]
    default, low, high = np.array([(param.default, param.low, param.high) for param in declared]).T
    possible = ((tasks.values >= low) & (tasks.values <= high)).all(-1)  # NaN and infinity are not
    return TaskBatch(tasks.names, np.where(possible[:, None], tasks.values, default)), possible


def limb_lengths(robot: Robot, tasks: TaskBatch) -> list[Limbs]:
    """The scaled limbs of each task's robot."""
    return [
        {name: scale for name, scale in zip(robot.limbs, scales, strict=True) if scale != 1.0}
        for scales in _vector(tasks, "limb_length", robot.limbs).tolist()
    ]


def model_fields(robot: Robot, model: mujoco.MjModel, tasks: TaskBatch) -> Fields:
    """The fields that differ from `model` in some of the B tasks. All tasks must have the limbs of `model`.

    They are computed from the values of `model`, which does not change, so scales never compound.
    """
    fields = {
        "body_mass": model.body_mass * _of_bodies(robot, tasks, "body_mass"),
        "body_inertia": model.body_inertia * _of_bodies(robot, tasks, "body_inertia")[..., None],
        "actuator_gear": model.actuator_gear * _vector(tasks, "actuator_gear", robot.actuators)[..., None],
    }
    if robot.root.height is not None:
        fields["opt.gravity"] = _gravity(tasks)
    if robot.damped:
        root = np.ones((len(tasks), robot.root.velocities))
        damping = _vector(tasks, "joint_damping", robot.joints)
        fields["dof_damping"] = model.dof_damping * np.hstack([root, damping])
    if robot.soles:
        fields["pair_friction"] = _friction(robot, model, tasks)
    if robot.legs:
        fields["geom_size"], fields["geom_pos"] = _crippled_geoms(robot, model, tasks)
    return {name: values for name, values in fields.items() if (values != value_of(model, name)).any()}


def task_models(robot: Robot, tasks: TaskBatch) -> list[mujoco.MjModel]:
    """One model per task, including the fields that MuJoCo derives from its physics."""
    models = []
    for index, limbs in enumerate(limb_lengths(robot, tasks)):
        task = TaskBatch(tasks.names, tasks.values[index : index + 1])
        model = rebuilt(robot, limbs)
        for name, values in model_fields(robot, model, task).items():
            value_of(model, name)[:] = values[0]
        mujoco.mj_setConst(model, mujoco.MjData(model))
        models.append(model)
    return models


def value_of(model: mujoco.MjModel, field: str) -> Array:
    """The array of a field; writing to it changes the model."""
    holder, name = (model.opt, field[4:]) if field.startswith("opt.") else (model, field)
    values: Array = getattr(holder, name)
    return values


def disabled_actuators(robot: Robot, tasks: TaskBatch) -> NDArray[np.bool_]:
    """Disabled actuators, (B, A) bool."""
    number = np.arange(1, len(robot.actuators) + 1)
    disabled: NDArray[np.bool_] = _vector(tasks, "joint_disabled", robot.actuators) != 0
    disabled |= tasks.column("crippled_joint")[:, None] == number
    for leg, joints in enumerate(robot.legs, start=1):
        disabled |= (tasks.column("crippled_leg")[:, None] == leg) & np.isin(robot.actuators, joints)
    return disabled


def _vector(tasks: TaskBatch, name: str, entries: Iterable[str]) -> Array:
    """The entries of a vector parameter, (B, entries)."""
    columns = [tasks.names.index(f"{name}[{entry}]") for entry in entries]
    return tasks.values[:, columns]


def _of_bodies(robot: Robot, tasks: TaskBatch, name: str) -> Array:
    """Scales of all bodies of a model, (B, bodies). Body 0 is the world."""
    return np.hstack([np.ones((len(tasks), 1)), _vector(tasks, name, robot.bodies)])


def _gravity(tasks: TaskBatch) -> Array:
    """Gravity in the frame of the ground, (B, 3). A slope is simulated by tilting gravity."""
    magnitude, slope = tasks.column("gravity"), tasks.column("terrain_slope")
    tilt = tasks.column("gravity_tilt") if "gravity_tilt" in tasks.names else np.zeros(len(tasks))
    along = -_each(math.sin, slope)
    across = _each(math.cos, slope) * _each(math.sin, tilt)
    down = -_each(math.cos, slope) * _each(math.cos, tilt)
    return magnitude[:, None] * np.stack([along, across, down], -1)


def _each(function: Callable[[float], float], values: Array) -> Array:
    """Applies a scalar function to each value, so that a result does not depend on the index in the batch."""
    return np.array([function(value) for value in values.tolist()])


def _friction(robot: Robot, model: mujoco.MjModel, tasks: TaskBatch) -> Array:
    """Friction of the pairs that can touch, (B, pairs, 5): the larger of the two geoms, as in MuJoCo."""
    scale = np.ones((len(tasks), model.ngeom))
    scale[:, [model.geom(sole).id for sole in robot.soles]] = _vector(tasks, "geom_friction", robot.soles)
    friction = model.geom_friction * scale[..., None]  # (B, geoms, 3)
    return pair_friction(np.maximum(friction[:, model.pair_geom1], friction[:, model.pair_geom2]))


def _crippled_geoms(robot: Robot, model: mujoco.MjModel, tasks: TaskBatch) -> tuple[Array, Array]:
    """Sizes and positions of geoms, (B, geoms, 3) each, with the crippled leg of GrBAL (`AntEnv.reset_task`).

    Both halves of the leg become half as long and half as thick, and the lower half moves to the position of the
    upper. Masses do not change.
    """
    size, position = (np.tile(values, (len(tasks), 1, 1)) for values in (model.geom_size, model.geom_pos))
    for leg, joints in enumerate(robot.legs, start=1):
        crippled = tasks.column("crippled_leg") == leg
        upper, lower = (model.body_geomadr[model.jnt_bodyid[model.joint(joint).id]] for joint in joints)
        size[crippled, upper] /= 2
        size[crippled, lower] /= 2
        position[crippled, lower] = position[crippled, upper]
    return size, position
