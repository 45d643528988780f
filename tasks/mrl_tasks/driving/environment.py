"""The embedded simulator: B x E cars that move together, in numpy on the CPU and in torch elsewhere.

On a CPU numpy is the faster of the two at every batch size. Few cars move in Python numbers, which are faster still
and give the same bits, so an instance's results do not depend on the number of instances.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple, Protocol

import array_api_compat.torch
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrl_bench.types import Step, TaskBatch
from mrl_tasks.delay import DelayLine
from mrl_tasks.driving import scalars, vehicle
from mrl_tasks.driving.actuation import command
from mrl_tasks.driving.family import Driving
from mrl_tasks.driving.geometry import Route, read_route
from mrl_tasks.driving.initial_state import first_scene, hidden
from mrl_tasks.driving.metrics import REPORTED, ROUTE_SHARE, driving_score
from mrl_tasks.driving.road_users import RoadUsers
from mrl_tasks.driving.scene import Scene, Task, Verdict, arrange, judge, observe, push, step_road_users
from mrl_tasks.driving.trees import each, one
from mrl_tasks.driving.vehicle import DT, Array, Car, CarState, Command, Namespace, clip

FEW = 4  # up to so few cars, Python numbers are faster than arrays


class Outcome(NamedTuple):
    """What `step` returns of a control step."""

    obs: Array  # (O, N)
    reward: Array  # (N,)
    ended: Array  # (N,) bool
    failed: Array  # (N,) bool: it ended because a number was not finite


class Instances(NamedTuple):
    """The state of N environment instances; the last axis of each array is N."""

    task: Task
    scene: Scene
    verdict: Verdict  # of the last control step
    outcome: Outcome


class Given(NamedTuple):
    """The arguments of `vehicle.step`."""

    state: CarState
    car: Car
    command: Command
    push_x: Array
    push_y: Array


class DrivingEnv:
    """B tasks x E episodes of driving; a `BatchEnv` that is `Renderable` and `HasMetrics`.

    Instances that have ended are no longer simulated once they are more than half.
    """

    reported = REPORTED

    def __init__(
        self,
        family: Driving,
        tasks: TaskBatch,
        episodes: int,
        device: torch.device,
        dtype: torch.dtype | None = None,
        *,
        route: Route | None = None,
        use_torch: bool = False,
    ) -> None:
        """Args: route: in place of the family's road; use_torch: computes as on a GPU, on a CPU too."""
        self._family, self._tasks, self._shape = family, tasks, (len(tasks), episodes)
        self._device, self._dtype = device, dtype or torch.float32
        self._in_torch = use_torch or device.type != "cpu"
        self._xp: Any = array_api_compat.torch if self._in_torch else np
        # Observations are written in the dtype in which they are shown.
        self._shown = self._dtype if self._in_torch else torch.empty(0, dtype=self._dtype).numpy().dtype
        self._host_route = route or read_route(family.road, family.keep_lane)
        self._host_task = hidden(family, self._host_route, tasks, episodes)
        self._route, self._task = each(self._array, self._host_route), each(self._array, self._host_task)
        delay = tasks.column("actuator_delay").repeat(episodes)
        self._delay_line = DelayLine(delay, self._array(np.zeros((len(delay), 2))))

    def reset(self, seed: int) -> Tensor:
        with np.errstate(all="ignore"):
            first = first_scene(
                self._family, self._host_route, self._host_task, self._tasks, self._shape[1], seed
            )
            scene: Scene = each(self._array, first)
            zero = self._xp.zeros_like(scene.start)
            none = self._xp.zeros_like(scene.start, dtype=bool if self._xp is np else torch.bool)
            self._all = Instances(
                task=self._task,
                scene=scene,
                verdict=Verdict(zero, none, none, none, none, none),
                outcome=Outcome(
                    obs=observe(self._xp, self._route, self._task, scene, self._shown),
                    reward=zero,
                    ended=none,
                    failed=none,
                ),
            )
        # The instances that are simulated, and their indices; None if it is all of them.
        self._active = self._all
        self._which: Array | None = None
        self._turn = 0
        self._delay_line.reset()
        return self._tensor(self._all.outcome.obs)

    def step(self, action: Tensor) -> Step:
        self._put_aside()
        given = action.detach().reshape(-1, 2)
        action = clip(self._xp, self._array(given if self._in_torch else given.cpu().numpy()), -1.0, 1.0)
        sent, arriving = action.T, self._delay_line.send(action).T  # (2, N)
        if self._which is not None:
            sent, arriving = sent[:, self._which], arriving[:, self._which]
        with np.errstate(all="ignore"):  # what overflows is flagged
            self._active = advance(
                self._xp, self._route, self._active, sent, arriving, self._turn, self._drive
            )
        self._turn += 1
        shown: Outcome = each(self._tensor, self._among_all(self._all.outcome, self._active.outcome))
        return Step(shown.obs, shown.reward, shown.ended & ~shown.failed, shown.failed)

    def metrics(self) -> dict[str, Tensor]:
        """See `mrl_bench.family.HasMetrics`, and `mrl_tasks.driving.metrics.DrivingScore` for their meaning."""
        instances: Instances = self._among_all(self._all, self._active)
        length = ROUTE_SHARE * instances.task.target_speed * self._family.horizon * DT
        score = driving_score(
            self._xp, instances.scene.place.s - instances.scene.start, length, instances.verdict
        )
        broke = instances.outcome.failed
        return {
            name: self._tensor(self._xp.where(broke, 0.0, value)) for name, value in score._asdict().items()
        }

    def render(self, task: int, episode: int, width: int, height: int) -> NDArray[np.uint8]:
        """See `mrl_bench.family.Renderable`."""
        from mrl_tasks.driving.rendering import draw

        instance = task * self._shape[1] + episode
        instances: Instances = each(
            lambda leaf: np.asarray(leaf[..., instance].tolist()), self._among_all(self._all, self._active)
        )
        return draw(self._host_route, instances.task, instances.scene, width, height)

    def close(self) -> None:
        pass

    def _drive(
        self, instances: Instances, command: Command, road_users: RoadUsers, push_x: Array, push_y: Array
    ) -> tuple[CarState, Array | None]:
        """See `Drive`. The CARLA backend overrides it."""
        given = Given(instances.scene.car, instances.task.car, command, push_x, push_y)
        if len(push_x) <= FEW and not self._in_torch:
            with suppress(ZeroDivisionError, ValueError):  # where numpy has numbers that are not finite
                states = [vehicle.step(scalars, *one(given, instance)) for instance in range(len(push_x))]
                return CarState(*np.reshape(states, (-1, len(CarState._fields))).T), None
        return vehicle.step(self._xp, *given), None

    def _among_all(self, whole: Any, simulated: Any) -> Any:
        """The tree `whole` of all instances, with the values of those that are simulated replaced."""
        if self._which is None:
            return simulated

        def put(old: Array, new: Array) -> Array:
            old = self._xp.asarray(old, copy=True)
            old[..., self._which] = new
            return old

        return each(put, whole, simulated)

    def _put_aside(self) -> None:
        """Leaves out of the simulation those that have ended, once they are more than half of it.

        Not on a GPU, because counting them would wait for the device.
        """
        if self._in_torch:
            return
        living = np.nonzero(~self._active.outcome.ended)[0]
        if 2 * len(living) >= len(self._active.outcome.ended):
            return
        self._all = self._among_all(self._all, self._active)
        self._which = living if self._which is None else self._which[living]
        self._active = each(lambda leaf: leaf[..., living], self._active)

    def _array(self, leaf: Any) -> Array:
        """An array of ours on our device, in our precision if it is of floats. Shares no memory."""
        if not self._in_torch:
            return np.array(leaf, dtype=None if leaf.dtype == np.bool_ else np.float64)
        kept = torch.bool if leaf.dtype in (np.bool_, torch.bool) else self._dtype
        return torch.as_tensor(leaf, dtype=kept, device=self._device).clone()

    def _tensor(self, leaf: Array) -> Tensor:
        """(..., N) -> (B, E, ...) on our device, in the dtype that was asked for. Shares no memory."""
        if not self._in_torch:
            leaf = torch.from_numpy(leaf)
        leaf = leaf.to(leaf.dtype if leaf.dtype == torch.bool else self._dtype)
        # Copied while it has two axes: torch is quicker at that than with three.
        last = torch.movedim(leaf, -1, 0).clone(memory_format=torch.contiguous_format)
        return last.reshape(*self._shape, *last.shape[1:])


class Drive(Protocol):
    """Moves our cars by a control step, which ends with the road users at `road_users`."""

    def __call__(
        self, instances: Instances, command: Command, road_users: RoadUsers, push_x: Array, push_y: Array
    ) -> tuple[CarState, Array | None]:
        """Our cars after it, and the contacts that sensors report, (K, N) bool, if any. See `vehicle.step`."""
        ...


def advance(
    xp: Namespace,
    route: Route,
    instances: Instances,
    action: Array,
    arriving: Array,
    turn: int,
    drive: Drive,
) -> Instances:
    """One control step of every instance. Instances that have ended do not change.

    Args:
        action: that is taken in this step, (2, N) in [-1, 1].
        arriving: the action, delayed, that reaches the actuators, (2, N).
        turn: number of the control step, from 0.
    """
    task, before = instances.task, instances.scene
    road_users, lane, clock = step_road_users(xp, route, task, before, turn)
    car, contacts = drive(
        instances, command(xp, task.actuation, *arriving), road_users, *push(task, before.place)
    )
    after = arrange(xp, route, before, car, road_users, lane, clock)
    verdict = judge(xp, route, task, before, after, action[0], contacts)
    obs = observe(xp, route, task, after, instances.outcome.obs.dtype)
    broke = ~xp.isfinite(xp.sum(obs, axis=0) + verdict.reward)
    obs = _keep(xp, broke, obs, instances.outcome.obs)
    next_instances = instances._replace(
        scene=after,
        verdict=verdict,
        outcome=Outcome(
            obs=obs,
            reward=verdict.reward,
            ended=verdict.over | broke,
            failed=broke,
        ),
    )
    kept: Instances = _keep(xp, instances.outcome.ended, next_instances, instances)
    return kept


def _keep(xp: Namespace, which: Array, new: Any, old: Any) -> Any:
    """The tree `new`, which may be overwritten, with the values of `old` in the instances `which`."""
    if xp is not np:  # counting them would wait for the device
        return each(lambda new, old: new if new is old else xp.where(which, old, new), new, old)
    places = np.nonzero(which)[0]  # they are few

    def keep(new: Array, old: Array) -> Array:
        if new is not old:
            new[..., places] = old[..., places]
        return new

    return each(keep, new, old) if len(places) else new
