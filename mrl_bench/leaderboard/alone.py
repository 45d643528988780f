"""Does an agent adapt to each task from that task's data alone? It is given single tasks, and must earn as much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import ttest_1samp
from torch import Generator, Tensor

from mrl_bench.runs.isolation.remote import RemoteAgent
from mrl_bench.types import Memory, Rollout, State, TimeStep

if TYPE_CHECKING:
    from mrl_bench.results import Curve

TASKS = 8  # that are played alone
_P = 1e-3  # an honest agent is refused with this probability
_RELEVANT = 0.05  # of the way from random to oracle: smaller differences are not held against an agent


class OneTask(RemoteAgent):
    """An agent in another process that is given one task of B; on the others nothing is done."""

    def __init__(self, agent: RemoteAgent, task: int) -> None:
        super().__init__(agent.session())
        self.sequential = agent.sequential
        self._task = slice(task, task + 1)

    def initial_state(self, num_tasks: int) -> State:
        return super().initial_state(1)

    def act(
        self, state: State, memory: Memory, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, Memory]:
        obs, previous, reward, alive = (part[self._task] for part in step[:4])
        own = TimeStep(obs, previous, reward, alive, step.t)
        action = torch.zeros_like(step.action)
        action[self._task], memory = super().act(state, memory, own, explore, rng)
        return action, memory

    def adapt(self, state: State, memory: Memory, rollout: Rollout, rng: Generator) -> State:
        own = Rollout(**{part.name: getattr(rollout, part.name)[self._task] for part in fields(rollout)})
        return super().adapt(state, memory, own, rng)


def chosen(tasks: int, seed: int) -> list[int]:
    """The tasks that are played alone, in this order."""
    return [int(task) for task in np.random.default_rng(seed).permutation(tasks)[:TASKS]]


def earns_less_alone(together: Curve, alone: Mapping[int, NDArray[np.float64]], span: float) -> float | None:
    """By how much the agent scores less on single tasks at the last k, if that is neither small nor chance.

    Args:
        together: the curve of all tasks in one batch.
        alone: task -> its returns (K, N) when it was played alone.
        span: the mean return of the oracle minus that of random.
    """
    loss = np.array(
        [(together.returns[task, -1] - returns[-1]).mean() / span for task, returns in alone.items()]
    )
    if len(loss) < 3 or loss.mean() < _RELEVANT:
        return None
    if np.ptp(loss) == 0 or ttest_1samp(loss, 0.0, alternative="greater").pvalue < _P:
        return float(loss.mean())
    return None
