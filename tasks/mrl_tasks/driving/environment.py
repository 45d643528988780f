"""The embedded simulator: B x E cars that move in one function, in numpy on the CPU and in torch elsewhere.

On a CPU numpy is the faster of the two at every batch size. Few cars move in Python's numbers, which are faster still
and the same to the last bit, so that a slot's numbers do not depend on how many there are.
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
from mrl_tasks.driving.road_users import Others
from mrl_tasks.driving.scene import Scene, Task, Verdict, act_others, arrange, judge, observe, push
from mrl_tasks.driving.trees import each, one
from mrl_tasks.driving.vehicle import DT, Array, Car, CarState, Command, Namespace, clip

FEW = 4  # cars that move sooner one by one, in Python's numbers, than in arrays


class Outcome(NamedTuple):
    """What is shown of a control step."""

    obs: Array  # (O, N)
    reward: Array  # (N,)
    ended: Array  # (N,) bool
    failed: Array  # (N,) bool: it ended because a number was not finite


class Instances(NamedTuple):
    """What a number of slots consist of; each array ends with the axis of the slots."""

    task: Task
    scene: Scene
    verdict: Verdict  # of the last control step
    outcome: Outcome


class Given(NamedTuple):
    """What `vehicle.step` takes."""

    state: CarState
    car: Car
    command: Command
    push_x: Array
    push_y: Array


class DrivingEnv:
    """B tasks x E episodes of driving; a `BatchEnv` that is `Renderable` and `HasMetrics`.

    Instances that have ended are put aside once they are more than half of those that are simulated.
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
            nobody = self._xp.zeros_like(scene.start, dtype=bool if self._xp is np else torch.bool)
            self._all = Instances(
                task=self._task,
                scene=scene,
                verdict=Verdict(zero, nobody, nobody, nobody, nobody),
                outcome=Outcome(
                    obs=observe(self._xp, self._route, self._task, scene, self._shown),
                    reward=zero,
                    ended=nobody,
                    failed=nobody,
                ),
            )
        # Those that are simulated, and their places among all; None where it is all of them.
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
        """See `mrl_bench.family.HasMetrics`, and `mrl_tasks.driving.metrics.DrivingScore` for what they are."""
        slots: Instances = self._among_all(self._all, self._active)
        length = ROUTE_SHARE * slots.task.target_speed * self._family.horizon * DT
        score = driving_score(self._xp, slots.scene.place.s - slots.scene.start, length, slots.verdict)
        broke = slots.outcome.failed
        return {
            name: self._tensor(self._xp.where(broke, 0.0, value)) for name, value in score._asdict().items()
        }

    def render(self, task: int, episode: int, width: int, height: int) -> NDArray[np.uint8]:
        """See `mrl_bench.family.Renderable`."""
        from mrl_tasks.driving.rendering import draw

        slot = task * self._shape[1] + episode
        slots: Instances = each(
            lambda leaf: np.asarray(leaf[..., slot].tolist()), self._among_all(self._all, self._active)
        )
        return draw(self._host_route, slots.task, slots.scene, width, height)

    def close(self) -> None:
        pass

    def _drive(
        self, slots: Instances, command: Command, others: Others, push_x: Array, push_y: Array
    ) -> tuple[CarState, Array | None]:
        """See `Drive`. A CARLA server takes the place of it."""
        given = Given(slots.scene.car, slots.task.car, command, push_x, push_y)
        if len(push_x) <= FEW and not self._in_torch:
            with suppress(ZeroDivisionError, ValueError):  # where numpy has numbers that are not finite
                states = [vehicle.step(scalars, *one(given, slot)) for slot in range(len(push_x))]
                return CarState(*np.reshape(states, (-1, len(CarState._fields))).T), None
        return vehicle.step(self._xp, *given), None

    def _among_all(self, whole: Any, simulated: Any) -> Any:
        """A tree of all slots, in which those that are simulated are as in another tree."""
        if self._which is None:
            return simulated

        def put(old: Array, new: Array) -> Array:
            old = self._xp.asarray(old, copy=True)
            old[..., self._which] = new
            return old

        return each(put, whole, simulated)

    def _put_aside(self) -> None:
        """Leaves out of the simulation those that have ended, once they are more than half of it.

        Not on a GPU, where to ask how many they are would wait for the device.
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
    """Moves our cars by a control step, in which the others come to where they are told."""

    def __call__(
        self, slots: Instances, command: Command, others: Others, push_x: Array, push_y: Array
    ) -> tuple[CarState, Array | None]:
        """Our cars after it; and whom they touched, (K, N) bool, where a sensor says so. See `vehicle.step`."""
        ...


def advance(
    xp: Namespace, route: Route, slots: Instances, action: Array, arriving: Array, turn: int, drive: Drive
) -> Instances:
    """One control step of every slot; those that had ended stay as they are.

    Args:
        action: that is taken in this step, (2, N) in [-1, 1].
        arriving: the action, delayed, that reaches the actuators, (2, N).
        turn: number of the control step, from 0.
    """
    task, before = slots.task, slots.scene
    others, lane, clock = act_others(xp, route, task, before, turn)
    car, contacts = drive(slots, command(xp, task.actuation, *arriving), others, *push(task, before.place))
    after = arrange(xp, route, before, car, others, lane, clock)
    verdict = judge(xp, route, task, before, after, action[0], contacts)
    obs = observe(xp, route, task, after, slots.outcome.obs.dtype)
    broke = ~xp.isfinite(xp.sum(obs, axis=0) + verdict.reward)
    obs = _keep(xp, broke, obs, slots.outcome.obs)
    next_slots = slots._replace(
        scene=after,
        verdict=verdict,
        outcome=Outcome(
            obs=obs,
            reward=verdict.reward,
            ended=verdict.over | broke,
            failed=broke,
        ),
    )
    kept: Instances = _keep(xp, slots.outcome.ended, next_slots, slots)
    return kept


def _keep(xp: Namespace, which: Array, new: Any, old: Any) -> Any:
    """A tree that was just made and may be written into, with the numbers of an old one in some slots."""
    if xp is not np:  # to ask how many they are would wait for the device
        return each(lambda new, old: new if new is old else xp.where(which, old, new), new, old)
    places = np.nonzero(which)[0]  # they are few

    def keep(new: Array, old: Array) -> Array:
        if new is not old:
            new[..., places] = old[..., places]
        return new

    return each(keep, new, old) if len(places) else new
