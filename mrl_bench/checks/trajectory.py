"""Short trajectories of pseudo-random actions, which the checks of a family compare bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mrl_bench.family import BatchEnv, Param, TaskFamily
from mrl_bench.keyed_random import uniforms
from mrl_bench.types import TaskBatch

STEPS = 100  # control steps of a trajectory, unless the horizon is shorter
SEED = 7  # of the episodes
CPU = torch.device("cpu")

Changes = Mapping[str, float]  # a task: the parameters that differ from their defaults
DEFAULT: Changes = {}

Look = Callable[[BatchEnv], object]  # called after every step


class Trajectory(NamedTuple):
    """The steps of an environment. After the end of an episode its last `obs` is repeated and the rest is 0."""

    obs: Tensor  # (T + 1, B, E, O)
    reward: Tensor  # (T, B, E)
    terminated: Tensor  # (T, B, E) bool
    failed: Tensor  # (T, B, E) bool
    unflagged: Tensor  # (T, B, E) bool: a value was not finite, but `failed` was not set

    def corner(self, tasks: int, episodes: int) -> Trajectory:
        """The trajectory of the first tasks and their first episodes."""
        return Trajectory(*(tensor[:, :tasks, :episodes] for tensor in self))

    def task(self, index: int) -> Trajectory:
        """The trajectory of one task, with B = 1."""
        return Trajectory(*(tensor[:, index : index + 1] for tensor in self))

    def played(self) -> Tensor:
        """Which steps belong to an episode, and did not fail, (T, B, E) bool."""
        failed = self.failed | self.unflagged
        ends = (failed | self.terminated).int()
        return (ends.cumsum(0) == ends) & ~failed

    def equals(self, other: Trajectory) -> bool:
        return all(torch.equal(a, b) for a, b in zip(self, other, strict=True))

    def differs(self, other: Trajectory, when: str) -> Iterator[str]:
        """Yields a line on the first field in which another trajectory differs."""
        for name, a, b in zip(self._fields, self, other, strict=True):
            where = (a != b).nonzero().tolist()
            if where:
                yield f"{name} differs {when}, first at [step, task, episode, ...] = {where[0]}"
                return

    def digest(self) -> str:
        return blake2b(b"".join(tensor.contiguous().numpy().tobytes() for tensor in self)).hexdigest()


def play(
    family: TaskFamily,
    batch: TaskBatch,
    episodes: int = 2,
    actions: Tensor | None = None,
    look: Look = lambda env: None,
) -> Trajectory:
    """A trajectory in a new environment; by default of `random_actions`."""
    env = family.make(batch, episodes, CPU)
    chosen = random_actions(family, len(batch), episodes) if actions is None else actions
    trajectory = play_in(env, chosen, look=look)
    env.close()
    return trajectory


def play_in(
    env: BatchEnv, actions: Tensor, seed: int = SEED, overwrite: bool = False, look: Look = lambda env: None
) -> Trajectory:
    """Plays actions (T, B, E, A).

    Args:
        overwrite: fill actions, observations and rewards with a constant after use.
        look: called before the first step and after each one.
    """
    returned = env.reset(seed)
    obs = returned.clone()
    alive = torch.ones(obs.shape[:2], dtype=torch.bool)
    seen, rows = [obs], []
    for action in actions:
        look(env)
        if overwrite:
            returned.fill_(9.0)
        step = env.step(action)
        finite = step.obs.isfinite().all(-1) & step.reward.isfinite()
        sound = alive & finite & ~step.failed
        obs = torch.where(sound[..., None], step.obs, obs)
        reward = torch.where(sound, step.reward, 0.0)
        rows.append((reward, sound & step.terminated, alive & step.failed, alive & ~finite & ~step.failed))
        seen.append(obs)
        alive = sound & ~step.terminated
        returned = step.obs
        if overwrite:
            action.fill_(9.0)
            step.reward.fill_(9.0)
    look(env)
    return Trajectory(torch.stack(seen), *(torch.stack(column) for column in zip(*rows, strict=True)))


def random_actions(family: TaskFamily, tasks: int, episodes: int, effort: float = 1.0) -> Tensor:
    """Uniform in [-effort, effort], (T, B, E, A). A value depends only on its indices."""
    steps = min(STEPS, family.spec.horizon)
    draws = uniforms(("actions of a check",), steps, tasks, episodes, family.spec.act_dim)
    return torch.tensor(effort * (2.0 * draws - 1.0), dtype=torch.float32)


def batch(family: TaskFamily, *tasks: Changes) -> TaskBatch:
    """Tasks of a family."""
    rows = [[task.get(name, param.default) for name, param in family.params.items()] for task in tasks]
    return TaskBatch(tuple(family.params), np.array(rows, dtype=np.float64))


def odd_task(family: TaskFamily) -> Changes:
    """A task in which every parameter differs from its default."""
    return {name: other_values(param)[0] for name, param in family.params.items()}


def other_values(param: Param) -> list[float]:
    """Legal values other than the default, the nearest first."""
    if param.values is not None:
        return [value for value in param.values if value != param.default]
    bounds = [bound for bound in (param.high, param.low) if bound != param.default]
    return [param.default + 0.3 * (bound - param.default) for bound in bounds] + bounds
