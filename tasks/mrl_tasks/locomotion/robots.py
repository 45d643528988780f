"""The six robots: the constants of Gymnasium's v5 environments in one table. Imports no simulator.

The models are read from the installed gymnasium package. A test compares this table with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from mrl_bench.errors import MissingPart

INSTALL = "locomotion needs MuJoCo and the models of Gymnasium: pip install mujoco gymnasium"

# [m/s, rad/s] What is faster is the work of an exploding integrator, and fails its step. It is out of a robot's reach:
# a motor with the largest gear that turned nothing but its rotor would leave the range of its joint at 470 rad/s, and a
# slide without friction, down the steepest slope under the strongest gravity, reaches 966 m/s in 50 s.
MAX_SPEED = 1000.0

Integrator = Literal["Euler", "RK4", "implicitfast"]
Solver = Literal["Newton", "PGS"]
Cone = Literal["pyramidal", "elliptic"]


@dataclass(frozen=True)
class Root:
    """The joints between torso and world. Their coordinates come first in qpos and in qvel."""

    positions: int  # coordinates in qpos
    velocities: int  # coordinates in qvel
    place: int  # number of leading coordinates that are a position on the ground: x, or x and y
    height: int | None = None  # index of the torso's height in qpos; None: it moves in a horizontal plane
    pitch: int | None = None  # index of the torso's pitch in qpos; None: not a coordinate


PLANAR = Root(positions=3, velocities=3, place=1, height=1, pitch=2)  # x, z, pitch
FREE = Root(positions=7, velocities=6, place=2, height=2)  # x, y, z, quaternion
SWIMMING = Root(positions=3, velocities=3, place=2)  # x, y, yaw


@dataclass(frozen=True)
class Robot:
    """A robot, its time step and its reward: the defaults of a scenario's options.

    Bodies and joints have their names in the XML file. A body without a name has the name of its joint, and an
    actuator has the name of the joint that it drives.
    """

    xml: str
    root: Root
    bodies: tuple[str, ...]  # in the model's order, without the world
    joints: tuple[str, ...]  # hinges, in the order of qpos
    actuators: tuple[str, ...]  # in the order of the action
    soles: tuple[str, ...]  # geoms that touch the ground while the robot is healthy, and the floor
    timestep: float  # [s]
    frame_skip: int  # time steps per control step
    integrator: Integrator
    control_cost: float  # per squared control
    healthy_reward: float  # per control step
    reset_noise: float  # [m, rad, m/s, rad/s] half-width of the uniform noise on the state at rest
    hinge_speed: float  # [rad/s] typical large joint velocity, for obs_scale
    solver: Solver = "Newton"
    cone: Cone = "pyramidal"  # friction cone of contacts
    forward_reward: float = 1.0  # weight of progress in the reward
    gaussian_velocities: bool = False  # initial velocities are normal with standard deviation `reset_noise`
    healthy_height: tuple[float, float] | None = None  # [m] of the torso; None: always healthy
    healthy_pitch: tuple[float, float] | None = None  # [rad] of the torso
    healthy_state: float | None = None  # bound of all coordinates but x and height
    control_limit: float = 1.0  # control for an action of 1
    observed_velocity: float | None = None  # [m/s, rad/s] observed velocities are clipped to this
    tracked: Literal["root", "torso", "mass_center"] = "root"  # the point whose velocity is rewarded
    observes_bodies: bool = False  # also observes inertias and velocities of bodies, and joint forces
    damped: bool = True  # the joints have damping
    balls: tuple[str, ...] = ()  # spherical bodies, which have no length
    legs: tuple[tuple[str, str], ...] = ()  # upper and lower joint of each leg that can be crippled

    @property
    def always_healthy(self) -> bool:
        return not (self.healthy_height or self.healthy_pitch or self.healthy_state)

    @property
    def positions(self) -> int:
        return self.root.positions + len(self.joints)

    @property
    def velocities(self) -> int:
        return self.root.velocities + len(self.joints)

    @property
    def limbs(self) -> tuple[str, ...]:
        """Bodies that have a length."""
        return tuple(body for body in self.bodies if body not in self.balls)


_CHEETAH_LEGS = ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
_WALKER_LEGS = ("thigh", "leg", "foot", "thigh_left", "leg_left", "foot_left")
_HUMANOID_LEGS = ("right_thigh", "right_shin", "right_foot", "left_thigh", "left_shin", "left_foot")
_HUMANOID_ARMS = ("right_upper_arm", "right_lower_arm", "left_upper_arm", "left_lower_arm")
_HUMANOID_ABDOMEN = ("abdomen_z", "abdomen_y", "abdomen_x")
_HUMANOID_JOINTS = (
    *("right_hip_x", "right_hip_z", "right_hip_y", "right_knee"),
    *("left_hip_x", "left_hip_z", "left_hip_y", "left_knee"),
    *("right_shoulder1", "right_shoulder2", "right_elbow", "left_shoulder1", "left_shoulder2", "left_elbow"),
)

ROBOTS = MappingProxyType(
    {
        "half_cheetah": Robot(
            xml="half_cheetah.xml",
            root=PLANAR,
            bodies=("torso", *_CHEETAH_LEGS),
            joints=_CHEETAH_LEGS,
            actuators=_CHEETAH_LEGS,
            soles=("floor", "bfoot", "ffoot"),
            timestep=0.01,
            frame_skip=5,
            integrator="Euler",
            control_cost=0.1,
            healthy_reward=0.0,
            reset_noise=0.1,
            hinge_speed=10.0,
            gaussian_velocities=True,
        ),
        "ant": Robot(
            xml="ant.xml",
            root=FREE,
            bodies=(
                "torso",
                *("front_left_leg", "aux_1", "ankle_1"),
                *("front_right_leg", "aux_2", "ankle_2"),
                *("back_leg", "aux_3", "ankle_3"),
                *("right_back_leg", "aux_4", "ankle_4"),
            ),
            joints=("hip_1", "ankle_1", "hip_2", "ankle_2", "hip_3", "ankle_3", "hip_4", "ankle_4"),
            actuators=("hip_4", "ankle_4", "hip_1", "ankle_1", "hip_2", "ankle_2", "hip_3", "ankle_3"),
            soles=("floor", "left_ankle_geom", "right_ankle_geom", "third_ankle_geom", "fourth_ankle_geom"),
            timestep=0.01,
            frame_skip=5,
            integrator="RK4",
            control_cost=0.5,
            healthy_reward=1.0,
            healthy_height=(0.2, 1.0),
            reset_noise=0.1,
            hinge_speed=10.0,
            gaussian_velocities=True,
            tracked="torso",
            balls=("torso",),
            legs=(("hip_1", "ankle_1"), ("hip_2", "ankle_2"), ("hip_3", "ankle_3"), ("hip_4", "ankle_4")),
        ),
        "walker2d": Robot(
            xml="walker2d_v5.xml",
            root=PLANAR,
            bodies=("torso", *_WALKER_LEGS),
            joints=tuple(f"{leg}_joint" for leg in _WALKER_LEGS),
            actuators=tuple(f"{leg}_joint" for leg in _WALKER_LEGS),
            soles=("floor", "foot_geom", "foot_left_geom"),
            timestep=0.002,
            frame_skip=4,
            integrator="RK4",
            control_cost=1e-3,
            healthy_reward=1.0,
            healthy_height=(0.8, 2.0),
            healthy_pitch=(-1.0, 1.0),
            reset_noise=5e-3,
            hinge_speed=10.0,
            observed_velocity=10.0,
        ),
        "hopper": Robot(
            xml="hopper.xml",
            root=PLANAR,
            bodies=("torso", *_WALKER_LEGS[:3]),
            joints=tuple(f"{leg}_joint" for leg in _WALKER_LEGS[:3]),
            actuators=tuple(f"{leg}_joint" for leg in _WALKER_LEGS[:3]),
            soles=("floor", "foot_geom"),
            timestep=0.002,
            frame_skip=4,
            integrator="RK4",
            control_cost=1e-3,
            healthy_reward=1.0,
            healthy_height=(0.7, float("inf")),
            healthy_pitch=(-0.2, 0.2),
            healthy_state=100.0,
            reset_noise=5e-3,
            hinge_speed=4.0,
            observed_velocity=10.0,
        ),
        "humanoid": Robot(
            xml="humanoid.xml",
            root=FREE,
            bodies=("torso", "lwaist", "pelvis", *_HUMANOID_LEGS, *_HUMANOID_ARMS),
            joints=(*_HUMANOID_ABDOMEN, *_HUMANOID_JOINTS),
            actuators=("abdomen_y", "abdomen_z", "abdomen_x", *_HUMANOID_JOINTS),
            soles=("floor", "right_foot", "left_foot"),
            timestep=0.003,
            frame_skip=5,
            integrator="RK4",
            solver="PGS",
            control_cost=0.1,
            healthy_reward=5.0,
            forward_reward=1.25,
            healthy_height=(1.0, 2.0),
            reset_noise=1e-2,
            hinge_speed=10.0,
            control_limit=0.4,
            tracked="mass_center",
            observes_bodies=True,
            balls=("right_foot", "left_foot"),
        ),
        "swimmer": Robot(
            xml="swimmer.xml",
            root=SWIMMING,
            bodies=("torso", "mid", "back"),
            joints=("motor1_rot", "motor2_rot"),
            actuators=("motor1_rot", "motor2_rot"),
            soles=(),
            timestep=0.01,
            frame_skip=4,
            integrator="RK4",
            control_cost=1e-4,
            healthy_reward=0.0,
            reset_noise=0.1,
            hinge_speed=4.0,
            damped=False,
        ),
    }
)


def model_path(robot: Robot) -> Path:
    """Path of the robot's XML file in the installed gymnasium package.

    Raises:
        MissingPart: gymnasium is not installed.
    """
    package = find_spec("gymnasium")
    if package is None or package.origin is None:
        raise MissingPart(INSTALL)
    return Path(package.origin).parent / "envs" / "mujoco" / "assets" / robot.xml
