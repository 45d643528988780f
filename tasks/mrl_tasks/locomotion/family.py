"""Parameters and options of locomotion. Only `make` imports a simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval

from mrl_bench.errors import MissingPart, UsageError
from mrl_bench.family import Param
from mrl_bench.types import EnvSpec, TaskBatch
from mrl_tasks.locomotion.parameters import Task, parameters
from mrl_tasks.locomotion.robots import (
    INSTALL,
    MAX_SPEED,
    ROBOTS,
    Cone,
    Integrator,
    Robot,
    Solver,
    model_path,
)
from mrl_tasks.validation import require_listed_values

if TYPE_CHECKING:
    import torch

    from mrl_tasks.locomotion.environment import LocomotionEnv


@cache
def _mujoco_version() -> str:
    """Many scenarios of a suite ask for it, and to read it takes 10 ms."""
    return version("mujoco")


@dataclass(frozen=True)
class Locomotion:
    """A MuJoCo robot that must run, turn or reach a goal.

    An option that is None has the value of Gymnasium's v5 environment of the robot, with
    `include_cfrc_ext_in_observation=False` and no contact cost. The reward of a control step is

        forward_reward * progress + healthy_reward * healthy - control_cost * sum(control^2)

    with progress v_x (task "forward"), -|v_x - target_velocity| ("velocity"), direction * v_x ("direction"),
    the velocity along the heading ("heading"), or minus the L1 distance from the goal ("goal"). The control
    is the one that reaches the actuators, so a disabled actuator costs nothing. The episode terminates when the
    robot is unhealthy.

    Observation: the coordinates without x (and y, for robots that can turn), the velocities, and for the humanoid the
    inertia and velocity of its bodies and the forces in its joints. It contains neither goal nor physics.
    """

    # The MuJoCo robot.
    robot: Literal["half_cheetah", "ant", "walker2d", "hopper", "humanoid", "swimmer"] = "half_cheetah"
    # What the reward asks for: forward, velocity, direction, heading or goal.
    task: Task = "forward"
    # Control steps of a full episode.
    horizon: int = 1000
    # Duration of a simulator step [s].
    timestep: Annotated[float, Interval(gt=0, le=0.1)] | None = None
    # Simulator steps per control step.
    frame_skip: Annotated[int, Interval(ge=1, le=1000)] | None = None
    # "Euler" is about 3.5 times faster than "RK4", with different dynamics.
    integrator: Integrator | None = None
    # Constraint solver; a GPU supports only "Newton".
    solver: Solver | None = None
    # Friction cones of contacts; GPU and CPU agree only with "elliptic".
    cone: Cone | None = None
    # Weight of progress in the reward.
    forward_reward: Annotated[float, Gt(0)] | None = None
    # Weight of the squared controls, subtracted from the reward.
    control_cost: Annotated[float, Ge(0)] | None = None
    # Reward of a control step in which the robot is healthy.
    healthy_reward: float | None = None
    # Range of torso heights [m] in which the robot is healthy.
    healthy_height: tuple[float, float] | None = None
    # Whether an episode terminates when the robot is not healthy.
    terminates: bool = True
    # Scale of the noise on the initial positions [m, rad] and velocities.
    reset_noise: Annotated[float, Ge(0)] | None = None
    # Prepends x (and y) to the observation, as `exclude_current_positions_from_observation=False` does.
    observe_place: bool = False
    # Appends the torso's position (3,) to the observation, as PEARL and VariBAD do.
    observe_torso: bool = False

    def __post_init__(self) -> None:
        if min(self.body.timestep, self.body.frame_skip) <= 0:
            raise UsageError("timestep and frame_skip must be above 0")
        if self.task in ("heading", "goal") and self.body.root.place < 2:
            raise UsageError(f"task {self.task!r} needs a robot that can turn: ant, humanoid or swimmer")
        if self.healthy_height and not self.healthy_height[0] < self.healthy_height[1]:
            raise UsageError("healthy_height is a range [low, high], and low must be less than high")
        if self.body.root.height is None:
            for option in ("healthy_height", "cone"):
                if getattr(self, option) is not None:
                    raise UsageError(f"{option} has no effect: the {self.robot} swims and touches no ground")
        if not self.terminates and self.body.always_healthy:
            raise UsageError(f"terminates has no effect: the {self.robot} is always healthy")

    @property
    def body(self) -> Robot:
        """The robot with this scenario's options in place of Gymnasium's."""
        options = (
            *("timestep", "frame_skip", "integrator", "solver", "cone", "forward_reward", "control_cost"),
            *("healthy_reward", "healthy_height", "reset_noise"),
        )
        given: dict[str, Any] = {name: getattr(self, name) for name in options}
        return replace(
            ROBOTS[self.robot], **{name: value for name, value in given.items() if value is not None}
        )

    @property
    def can_fall(self) -> bool:
        """Whether an episode can terminate."""
        return self.terminates and not self.body.always_healthy

    @property
    def params(self) -> Mapping[str, Param]:
        return parameters(self.robot, self.task)

    @property
    def spec(self) -> EnvSpec:
        body = self.body
        scale = self._obs_scale()
        return EnvSpec(
            obs_dim=len(scale),
            act_dim=len(body.actuators),
            horizon=self.horizon,
            dt=body.timestep * body.frame_skip,
            obs_scale=scale,
        )

    def _obs_scale(self) -> tuple[float, ...]:
        """A typical large value of each entry of the observation."""
        body, place = self.body, 10.0  # [m]
        scale = [place] * (body.root.place if self.observe_place else 0)
        scale += [1.0] * (body.positions - body.root.place)
        scale += [2.0] * body.root.velocities + [body.hinge_speed] * len(body.joints)
        if body.observes_bodies:
            scale += [*[1.0] * 9, 10.0] * len(body.bodies)  # inertia, first moment and mass
            scale += [5.0] * 6 * len(body.bodies)  # velocity
            scale += [50.0] * len(body.joints)  # force
        if self.observe_torso:
            scale += [place, place, 1.0]
        return tuple(scale)

    @property
    def reward_range(self) -> tuple[float, float]:
        """Progress is at most a speed, which `MAX_SPEED` bounds; the distance from a goal has no bound."""
        body = self.body
        if min(body.forward_reward, body.control_cost) < 0:
            return (-inf, inf)
        match self.task:
            case "velocity":
                target = self.params["target_velocity"]
                least, most = -MAX_SPEED - max(-target.low, target.high), 0.0
            case "goal":
                least, most = -inf, 0.0
            case _:
                least, most = -MAX_SPEED, MAX_SPEED
        cost = body.control_cost * len(body.actuators) * body.control_limit**2
        unhealthy, healthy = sorted((0.0, body.healthy_reward))
        return (body.forward_reward * least + unhealthy - cost, body.forward_reward * most + healthy)

    @property
    def simulator(self) -> str:
        try:
            return f"mujoco {_mujoco_version()}"
        except PackageNotFoundError:
            raise MissingPart(INSTALL) from None

    @property
    def data_files(self) -> tuple[Path, ...]:
        """The robot's XML file."""
        return (model_path(self.body),)

    def make(
        self, tasks: TaskBatch, episodes: int, device: torch.device, dtype: torch.dtype | None = None
    ) -> LocomotionEnv:
        """B x E robots. On the CPU they are simulated in float64, on as many threads as torch is set to use.

        A task with a parameter that is out of bounds or NaN fails in its first step.

        Raises:
            MissingPart: MuJoCo or Gymnasium is not installed.
            UsageError: a parameter with listed values has another value.
        """
        import torch

        if find_spec("mujoco") is None:
            raise MissingPart(INSTALL)
        from mrl_tasks.locomotion.environment import LocomotionEnv
        from mrl_tasks.locomotion.physics import within_bounds
        from mrl_tasks.locomotion.simulation import simulate

        require_listed_values(self.params, tasks)
        tasks, possible = within_bounds(tasks, self.params)
        simulation = simulate(self.body, tasks, episodes, device)
        return LocomotionEnv(self, tasks, possible, episodes, simulation, dtype or torch.float32)
