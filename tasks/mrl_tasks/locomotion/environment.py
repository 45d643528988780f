"""The locomotion environment: actuation, reward, termination and observation, on top of any `Simulation`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from mrl_bench.keyed_random import uniforms
from mrl_bench.types import Ratio, Step, TaskBatch
from mrl_tasks.locomotion.actuation import Actuation
from mrl_tasks.locomotion.family import Locomotion
from mrl_tasks.locomotion.robots import MAX_SPEED, Robot
from mrl_tasks.locomotion.simulation import Simulation

if TYPE_CHECKING:
    from mrl_tasks.locomotion.rendering import Renderer

# A numpy array if the simulation is on the CPU, else a torch tensor; the code uses only operations of both. The
# simulation evicts our data from the CPU caches, and with cold caches numpy operations take a fifth of the time of
# torch's.
Array = Any


class LocomotionEnv:
    """B tasks x E robots; a `BatchEnv` that is `Renderable` and `HasMetrics`.

    Internally, the instances are one axis, N = B x E.
    """

    def __init__(
        self,
        family: Locomotion,
        tasks: TaskBatch,
        possible: NDArray[np.bool_],
        episodes: int,
        simulation: Simulation,
        dtype: torch.dtype,
    ) -> None:
        """`possible`: tasks within bounds, (B,). The others fail in their first step."""
        self.robot, self.simulation = family.body, simulation
        self._family, self._dt, self._dtype = family, family.spec.dt, dtype
        self._shape, self._tasks = (len(tasks), episodes), tasks
        self._renderers: dict[tuple[int, int, int], Renderer] = {}  # (task, width, height) ->
        self._state = _native(simulation.state)
        self._derived = {name: _native(simulation.derived(name)) for name in _quantities(family)}
        self._mass = _native(simulation.body_mass)

        def constant(values: NDArray[Any]) -> Array:
            """An array on the device of the simulation; floats get its precision."""
            like = simulation.state
            tensor = torch.from_numpy(values).to(like.device)
            return _native(tensor.to(like.dtype) if tensor.is_floating_point() else tensor)

        self._actuation = Actuation(self.robot, tasks, episodes, constant)
        self._goal = constant(_goals(family.task, tasks).repeat(episodes, 0))  # (N, ...)
        low, high = _healthy_states(self.robot)
        bounded = np.flatnonzero(np.isfinite(low) | np.isfinite(high))
        self._bounded = slice(bounded[0], bounded[-1] + 1) if len(bounded) else None  # coordinates
        self._healthy = [constant(bound[self._bounded]) for bound in (low, high)]
        largest = np.full(len(low), np.inf)  # (nq + nv,) bound of observed values
        largest[self.robot.positions :] = self.robot.observed_velocity or np.inf
        self._largest = constant(largest)
        self._impossible = constant(~possible.repeat(episodes))  # (N,)
        self._all_true, self._all_false = (
            constant(np.full(len(possible) * episodes, x)) for x in (True, False)
        )

    def reset(self, seed: int) -> Tensor:
        robot = self.robot
        draws = uniforms(("reset", seed), *self._shape, robot.positions + robot.velocities)
        draws = draws.reshape(-1, draws.shape[-1])
        noise = 2.0 * draws - 1.0
        if robot.gaussian_velocities:
            noise[:, robot.positions :] = ndtri(draws[:, robot.positions :])
        rest = self.simulation.rest
        self.simulation.start(rest + rest.new_tensor(robot.reset_noise * noise))
        self._actuation.reset()
        self._place, self._alive, self._fallen = self.place(), self._all_true, self._all_false
        return self.observation()

    def step(self, action: Tensor) -> Step:
        control = self._actuation.control(_native(action.flatten(0, 1)))
        advanced = self.simulation.advance(torch.as_tensor(control), torch.as_tensor(self._alive))
        before, self._place = self._place, self.place()
        velocity = (self._place - before) / self._dt
        failed = _native(advanced) | self._impossible | self.is_too_fast(velocity)
        healthy = self.is_healthy()
        reward = (
            self.robot.forward_reward * self.progress(velocity)
            + self.robot.healthy_reward * healthy
            - self.robot.control_cost * (control * control).sum(-1)
        )
        terminated = ~(healthy | failed) if self._family.terminates else self._all_false
        self._fallen = self._fallen | (self._alive & terminated)
        self._alive = self._alive & ~(terminated | failed)
        return Step(self.observation(), *(self._returned(x) for x in (reward, terminated, failed)))

    def _returned(self, values: Array) -> Tensor:
        """Values of instances, (N,), as the caller gets them: (B, E), in new memory."""
        tensor = torch.as_tensor(values).view(self._shape)
        return tensor.clone() if tensor.dtype == torch.bool else tensor.to(self._dtype)

    @property
    def reported(self) -> Mapping[str, Ratio]:
        """See `mrl_bench.family.HasMetrics`."""
        return {"fall rate": Ratio("falls", low=0.0, high=1.0)} if self._family.can_fall else {}

    def metrics(self) -> dict[str, Tensor]:
        """See `mrl_bench.family.HasMetrics`. `falls` is 1 if the episode terminated, else 0."""
        if not self._family.can_fall:
            return {}
        return {"falls": torch.as_tensor(self._fallen).view(self._shape).to(self._dtype)}

    def render(self, task: int, episode: int, width: int, height: int) -> NDArray[np.uint8]:
        """See `mrl_bench.family.Renderable`."""
        from mrl_tasks.locomotion.rendering import Renderer

        key = (task, width, height)
        if key not in self._renderers:
            one_task = TaskBatch(self._tasks.names, self._tasks.values[task : task + 1])
            self._renderers[key] = Renderer(self.robot, one_task, width, height)
        index = task * self._shape[1] + episode
        return self._renderers[key].render(self.simulation.state[index, : self.robot.positions].cpu().numpy())

    def close(self) -> None:
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def place(self) -> Array:
        """Positions on the ground: x, or x and y for robots that can turn, (N, 1 or 2) [m]."""
        axes = self.robot.root.place
        match self.robot.tracked:
            case "root":
                return self._state[:, :axes] + 0.0  # a copy
            case "torso":
                return self._derived["xpos"][:, 1, :axes] + 0.0
            case "mass_center":
                points = self._derived["xipos"][..., :axes]
                return (self._mass[..., None] * points).sum(1) / self._mass.sum(-1)[:, None]

    def progress(self, velocity: Array) -> Array:
        """The task's progress, (N,), for a velocity (N, 1 or 2) [m/s] at the current position."""
        goal = self._goal
        match self._family.task:
            case "forward":
                return velocity[:, 0]
            case "velocity":
                return -abs(velocity[:, 0] - goal)
            case "direction":
                return velocity[:, 0] * goal
            case "heading":
                return velocity[:, 0] * goal[:, 0] + velocity[:, 1] * goal[:, 1]
            case "goal":
                distance = abs(self._place - goal)
                return -(distance[:, 0] + distance[:, 1])

    def is_too_fast(self, velocity: Array) -> Array:
        """(N,) bool: a coordinate now, or the place over the control step, (N, 1 or 2) [m/s], exceeds `MAX_SPEED`."""
        coordinates = abs(self._state[:, self.robot.positions :])
        return ~((coordinates <= MAX_SPEED).all(-1) & ((velocity * velocity).sum(-1) <= MAX_SPEED**2))

    def is_healthy(self) -> Array:
        """(N,) bool: height, pitch and coordinates are within the robot's healthy ranges."""
        if self._bounded is None:
            return self._all_true
        low, high = self._healthy
        state = self._state[:, self._bounded]
        return ((state > low) & (state < high)).all(-1)

    def observation(self) -> Tensor:
        """(B, E, O), in new memory."""
        robot, state = self.robot, self._state
        if robot.observed_velocity is not None:
            state = state.clip(-self._largest, self._largest)
        parts = [state if self._family.observe_place else state[:, robot.root.place :]]
        if robot.observes_bodies:
            cinert, cvel = (self._derived[name].reshape(len(state), -1) for name in ("cinert", "cvel"))
            parts += [cinert[:, 10:], cvel[:, 6:], self._derived["qfrc_actuator"][:, robot.root.velocities :]]
        if self._family.observe_torso:
            parts.append(self._derived["xpos"][:, 1])
        return _join(parts, self._dtype).view(*self._shape, -1)


def _quantities(family: Locomotion) -> Iterator[str]:
    """Names of the derived quantities that `place` and `observation` use."""
    robot = family.body
    if robot.tracked == "torso" or family.observe_torso:
        yield "xpos"
    if robot.tracked == "mass_center":
        yield "xipos"
    if robot.observes_bodies:
        yield from ("cinert", "cvel", "qfrc_actuator")


def _goals(task: str, tasks: TaskBatch) -> NDArray[np.float64]:
    """The goal of each task, as `progress` uses it, (B, ...)."""
    match task:
        case "velocity":
            return tasks.column("target_velocity")
        case "direction":
            return tasks.column("direction")
        case "heading":
            headings = tasks.column("heading").tolist()
            return np.array([(math.cos(heading), math.sin(heading)) for heading in headings])
        case "goal":
            return np.stack([tasks.column("goal_x"), tasks.column("goal_y")], -1)
    return np.zeros(len(tasks))


def _healthy_states(robot: Robot) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper bounds, (nq + nv,) each, of the states in which a robot is healthy."""
    low = np.full(robot.positions + robot.velocities, -np.inf)
    if robot.healthy_state is not None:
        low[2:] = -robot.healthy_state
    high = -low
    for coordinate, bounds in (
        (robot.root.height, robot.healthy_height),
        (robot.root.pitch, robot.healthy_pitch),
    ):
        if coordinate is not None and bounds is not None:
            low[coordinate], high[coordinate] = bounds
    return low, high


def _native(tensor: Tensor) -> Array:
    """A view of a tensor as `Array`: numpy on the CPU, the tensor itself elsewhere."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


def _join(parts: list[Array], dtype: torch.dtype) -> Tensor:
    """Concatenates columns into a new tensor of the given dtype."""
    if isinstance(parts[0], Tensor):
        return torch.cat(parts, -1).to(dtype)
    number = np.float32 if dtype == torch.float32 else np.float64
    with np.errstate(over="ignore"):  # in an instance that exploded
        return torch.from_numpy(np.concatenate(parts, -1, dtype=number, casting="same_kind"))
