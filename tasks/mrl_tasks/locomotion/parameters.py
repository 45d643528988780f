"""The parameters of a robot and its task. Imports no simulator.

A vector parameter has one `Param` per entry, for example `body_mass[torso]`. A scenario addresses all entries as
`body_mass[*]` (independent draws) or `body_mass[=]` (one shared draw).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import pi
from types import MappingProxyType
from typing import Literal

from mrl_bench.family import Param
from mrl_tasks.locomotion.robots import ROBOTS, Robot

Task = Literal["forward", "velocity", "direction", "heading", "goal"]

MAX_DELAY = 10  # control steps
_GOALS: Mapping[Task, Mapping[str, Param]] = {
    "forward": {},
    "velocity": {
        "target_velocity": Param(1.0, -10.0, 10.0, "m/s", "velocity along x that the reward asks for")
    },
    "direction": {
        "direction": Param(1.0, -1.0, 1.0, "1", "rewarded direction along x", values=(-1.0, 1.0)),
    },
    "heading": {"heading": Param(0.0, -2 * pi, 2 * pi, "rad", "rewarded direction, from +x towards +y")},
    "goal": {
        "goal_x": Param(2.0, -20.0, 20.0, "m", "x coordinate of the goal"),
        "goal_y": Param(0.0, -20.0, 20.0, "m", "y coordinate of the goal"),
    },
}


@lru_cache
def parameters(robot_name: str, task: Task) -> Mapping[str, Param]:
    """All parameters of a robot with a task."""
    robot = ROBOTS[robot_name]
    return MappingProxyType({**_world(robot), **_build(robot), **_actuation(robot), **_GOALS[task]})


def _world(robot: Robot) -> dict[str, Param]:
    """Gravity and ground. The swimmer moves in a horizontal plane, where neither has an effect."""
    if robot.root.height is None:
        return {}
    friction = Param(1.0, 0.01, 10.0, "1", "scale of the geom's friction")
    world = {
        "gravity": Param(9.81, 0.5, 30.0, "m/s^2", "acceleration of free fall"),
        "terrain_slope": Param(0.0, -0.7, 0.7, "rad", "slope of the ground along +x"),
    }
    if robot.root.place == 2:
        world["gravity_tilt"] = Param(0.0, -0.7, 0.7, "rad", "tilt of gravity towards +y")
    return world | _each("geom_friction", robot.soles, friction)


def _build(robot: Robot) -> dict[str, Param]:
    """Masses, lengths and damping of the robot."""
    mass = Param(1.0, 0.05, 20.0, "1", "scale of the body's mass")
    inertia = Param(1.0, 0.05, 20.0, "1", "scale of the body's inertia, independent of its mass")
    length = Param(1.0, 0.5, 2.0, "1", "scale of the body's length; its mass and inertia follow")
    damping = Param(1.0, 0.0, 20.0, "1", "scale of the joint's damping")
    return {
        **_each("body_mass", robot.bodies, mass),
        **_each("body_inertia", robot.bodies, inertia),
        **_each("limb_length", robot.limbs, length),
        **_each("joint_damping", robot.joints if robot.damped else (), damping),
    }


def _actuation(robot: Robot) -> dict[str, Param]:
    """The actuators: from an action to torques."""
    count = len(robot.actuators)
    gear = Param(1.0, -3.0, 3.0, "1", "scale of the actuator's torque, negative if reversed")
    disabled = Param(0.0, 0.0, 1.0, "1", "1 if the joint's actuator is disabled", values=(0.0, 1.0))
    actuation = {
        **_each("actuator_gear", robot.actuators, gear),
        **_each("joint_disabled", robot.actuators, disabled),
        "crippled_joint": _number(
            count, "actuator", "number of the actuator that is disabled; 0 disables none"
        ),
        "actuator_shift": _number(
            count - 1, "actuators", "command i drives actuator i + shift, modulo their number"
        ),
        "action_delay": _number(MAX_DELAY, "control steps", "delay from an action to its torques"),
    }
    if robot.legs:
        doc = "number of the leg that is shrunk and whose actuators are disabled; 0 selects none"
        actuation["crippled_leg"] = _number(len(robot.legs), "leg", doc)
    return actuation


def _each(name: str, entries: Iterable[str], param: Param) -> dict[str, Param]:
    """A vector parameter."""
    return {f"{name}[{entry}]": param for entry in entries}


def _number(last: int, unit: str, doc: str) -> Param:
    """A whole number from 0, its default, to `last`."""
    return Param(0.0, 0.0, float(last), unit, doc, values=tuple(float(n) for n in range(last + 1)))
