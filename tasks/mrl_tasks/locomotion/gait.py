"""Locomotion as an environment: actions in, observations and rewards out, whatever moves the robots."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from mrl_bench.streams import uniforms
from mrl_bench.types import Step, TaskBatch
from mrl_tasks.locomotion.family import Locomotion
from mrl_tasks.locomotion.robots import Robot
from mrl_tasks.locomotion.simulation import Simulation
from mrl_tasks.locomotion.wiring import Wiring

if TYPE_CHECKING:
    from mrl_tasks.locomotion.film import Film


class Gait:
    """B tasks x E robots, see `mrl_bench.family.BatchEnv`. Inside, the slots are one axis, N = B x E.

    A simulation leaves nothing of this in the processor's caches: few operations are what makes a step fast.
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
        """`possible` (B,) says which tasks there can be; the others fail in their first step."""
        self.robot, self.simulation = family.body, simulation
        self._family, self._dt, self._dtype = family, family.spec.dt, dtype
        self._shape, self._tasks = (len(tasks), episodes), tasks
        self._films: dict[tuple[int, int, int], Film] = {}  # (task, width, height) ->
        self._derived = {name: simulation.derived(name) for name in _quantities(family)}
        self._wiring = Wiring(self.robot, tasks, episodes, like=simulation.state)
        self._goal = simulation.state.new_tensor(_goals(family.task, tasks).repeat(episodes, 0))  # (N, ...)
        self._healthy = [simulation.state.new_tensor(bound) for bound in _healthy_states(self.robot)]
        self._largest = torch.full_like(self._healthy[0], torch.inf)  # (nq + nv,) as observed
        self._largest[self.robot.positions :] = self.robot.observed_velocity or torch.inf
        self._impossible = torch.from_numpy(~possible.repeat(episodes)).to(simulation.state.device)  # (N,)

    def reset(self, seed: int) -> Tensor:
        robot = self.robot
        draws = uniforms(("reset", seed), *self._shape, robot.positions + robot.velocities)
        draws = draws.reshape(-1, draws.shape[-1])
        noise = 2.0 * draws - 1.0
        if robot.gaussian_velocities:
            noise[:, robot.positions :] = ndtri(draws[:, robot.positions :])
        rest = self.simulation.rest
        self.simulation.start(rest + rest.new_tensor(robot.reset_noise * noise))
        self._wiring.reset()
        self._place = self.place()
        self._alive = torch.ones_like(self._impossible)
        return self.observation()

    def step(self, action: Tensor) -> Step:
        control = self._wiring.control(action.flatten(0, 1))
        failed = self.simulation.advance(control, self._alive) | self._impossible
        before, self._place = self._place, self.place()
        healthy = self.is_healthy()
        reward = (
            self.robot.forward_reward * self.progress((self._place - before) / self._dt)
            + self.robot.healthy_reward * healthy
            - self.robot.control_cost * control.square().sum(-1)
        )
        terminated = ~(healthy | failed) if self._family.terminates else torch.zeros_like(failed)
        self._alive = self._alive & ~(terminated | failed)
        return Step(
            self.observation(),
            reward.to(self._dtype).view(self._shape),
            terminated.view(self._shape),
            failed.view(self._shape),
        )

    def picture(self, task: int, episode: int, width: int, height: int) -> NDArray[np.uint8]:
        """See `mrl_bench.family.Pictured`."""
        from mrl_tasks.locomotion.film import Film

        key = (task, width, height)
        if key not in self._films:
            own = TaskBatch(self._tasks.names, self._tasks.values[task : task + 1])
            self._films[key] = Film(self.robot, own, width, height)
        slot = task * self._shape[1] + episode
        return self._films[key].picture(self.simulation.state[slot, : self.robot.positions].cpu().numpy())

    def close(self) -> None:
        for film in self._films.values():
            film.close()
        self._films.clear()

    def place(self) -> Tensor:
        """Where on the ground the robots are: x, or x and y where they can turn, (N, 1 or 2) [m]."""
        axes = self.robot.root.place
        match self.robot.tracked:
            case "root":
                return self.simulation.state[:, :axes].clone()
            case "torso":
                return self._derived["xpos"][:, 1, :axes].clone()
            case "mass_center":
                mass, points = self.simulation.body_mass, self._derived["xipos"]
                moment = torch.stack([(mass * points[..., axis]).sum(-1) for axis in range(axes)], -1)
                return moment / mass.sum(-1, True)

    def progress(self, velocity: Tensor) -> Tensor:
        """What the task rewards, (N,), of a velocity (N, 1 or 2) [m/s] and of the present place."""
        goal = self._goal
        match self._family.task:
            case "forward":
                return velocity[:, 0]
            case "velocity":
                return -(velocity[:, 0] - goal).abs()
            case "direction":
                return velocity[:, 0] * goal
            case "heading":
                return velocity[:, 0] * goal[:, 0] + velocity[:, 1] * goal[:, 1]
            case "goal":
                distance = (self._place - goal).abs()
                return -(distance[:, 0] + distance[:, 1])

    def is_healthy(self) -> Tensor:
        """(N,) bool: the torso is as high and as upright as it should be."""
        low, high = self._healthy
        return ((self.simulation.state > low) & (self.simulation.state < high)).all(-1)

    def observation(self) -> Tensor:
        """(B, E, O), in memory of its own."""
        robot, state = self.robot, self.simulation.state
        if robot.observed_velocity is not None:
            state = state.clamp(-self._largest, self._largest)
        parts = [state if self._family.observe_place else state[:, robot.root.place :]]
        if robot.observes_bodies:
            parts += [self._derived["cinert"].flatten(1)[:, 10:], self._derived["cvel"].flatten(1)[:, 6:]]
            parts.append(self._derived["qfrc_actuator"][:, robot.root.velocities :])
        if self._family.observe_torso:
            parts.append(self._derived["xpos"][:, 1])
        return _join(parts, self._dtype).view(*self._shape, -1)


def _quantities(family: Locomotion) -> Iterator[str]:
    """What `place` and `observation` need to know beside the state."""
    robot = family.body
    if robot.tracked == "torso" or family.observe_torso:
        yield "xpos"
    if robot.tracked == "mass_center":
        yield "xipos"
    if robot.observes_bodies:
        yield from ("cinert", "cvel", "qfrc_actuator")


def _goals(task: str, tasks: TaskBatch) -> NDArray[np.float64]:
    """What `progress` needs to know of each task, (B, ...)."""
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
    """Between which states (nq + nv,) a robot is healthy."""
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


def _join(parts: list[Tensor], dtype: torch.dtype) -> Tensor:
    """Columns side by side, in a new tensor of another type."""
    if parts[0].device.type != "cpu":
        return torch.cat(parts, -1).to(dtype)
    # By numpy, since torch wakes its threads for some 30 microseconds of copying, and waits for them.
    columns = [part.numpy() for part in parts]
    return torch.from_numpy(np.concatenate(columns, -1, dtype=torch.empty(0, dtype=dtype).numpy().dtype))
