"""Meta-training: gives an agent new training tasks, counts env steps, and enforces the budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from weakref import finalize

import numpy as np
import torch

from mrl_bench.agent import Act, MetaAgent
from mrl_bench.errors import BudgetSpent, ContractError
from mrl_bench.family import BatchEnv
from mrl_bench.keyed_random import seed_of
from mrl_bench.protocol.rollout import play
from mrl_bench.types import EnvSpec, Memory, Rollout, State

if TYPE_CHECKING:
    from torch import Tensor

    from mrl_bench.scenario import Scenario

Log = Callable[[Mapping[str, float], int], None]  # (tag -> value, step)
Watch = Callable[[int], None]  # called with the env steps so far, whenever the agent asks for new tasks

# Each training seed reads its own part of the scenario's task stream.
_TASKS_PER_SEED = 2**32


def meta_train(agent: MetaAgent, training: BudgetedTraining) -> None:
    """Meta-trains an agent until the budget is spent, unless it stops earlier.

    Raises:
        BudgetSpent: the budget ended within the first collection, so that the agent has no data at all.
    """
    try:
        agent.meta_train(training)
    except BudgetSpent as error:
        if not training.collections:
            raise BudgetSpent(f"nothing was learned: {error}, in the first collection of episodes") from None
    finally:
        training.close()


def require_counts(count: int, episodes: int) -> None:
    """Refuses arguments of `training.tasks` that are no whole numbers of at least 1."""
    for name, value in (("count", count), ("episodes", episodes)):
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
            raise ContractError(f"training.tasks: {name} must be a whole number of at least 1, not {value!r}")


class BudgetedTraining:
    """One meta-training run of a scenario; see `mrl_bench.agent.Training`."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        budget: int,
        seed: int,
        device: torch.device,
        log: Log,
        watch: Watch = lambda steps: None,
    ) -> None:
        self._scenario, self._seed, self._device = scenario, seed, device
        self._steps, self._log, self._watch = StepCount(budget), log, watch
        self._drawn = 0  # tasks
        self._collections = 0  # that were completed
        self._started = time.perf_counter()

    @property
    def budget(self) -> int:
        return self._steps.budget

    @property
    def steps(self) -> int:
        return self._steps.total

    @property
    def left(self) -> int:
        return 0 if self._steps.closed else self.budget - self.steps

    @property
    def collections(self) -> int:
        """Calls of `collect` that were completed."""
        return self._collections

    def tasks(self, count: int, episodes: int) -> PlayableTasks:
        require_counts(count, episodes)
        asked = time.perf_counter()
        self._watch(self.steps)
        self._started += time.perf_counter() - asked  # excluded from the steps per second
        batch = self._scenario.stream(self._seed * _TASKS_PER_SEED + self._drawn, count)
        self._drawn += count
        env = self._scenario.family.make(batch, episodes, self._device)
        return PlayableTasks(self, env, self._scenario.spec)

    def close(self) -> None:
        """Ends the meta-training: nothing more can be collected, whatever is left of the budget."""
        self._steps.closed = True

    def log(self, values: Mapping[str, float | Tensor]) -> None:
        self._log({tag: float(value) for tag, value in values.items()}, self.steps)

    def spend(self, alive: Tensor) -> None:
        self._steps.spend(alive)

    def played(self, rollout: Rollout, times: int) -> None:
        """Logs a rollout, the `times`-th on its tasks (from 0)."""
        self._collections += 1
        self.log(
            {
                f"charts/episodic_return_{times}": rollout.returns().mean(),
                f"charts/episodic_length_{times}": rollout.lengths().mean(),
                "charts/SPS": self.steps / (time.perf_counter() - self._started),
            }
        )

    def next_seeds(self) -> tuple[int, int]:
        """Seeds of the next collection: of the initial states, and of the agent's noise."""
        where = (self._scenario.id, self._seed, self._collections)
        return seed_of("train", "episodes", *where), seed_of("train", "noise", *where)


class StepCount:
    """Env steps so far, which never exceed the budget.

    On a GPU, reading how many instances are alive waits for the device. So the count of a step is read only when it
    could exceed the budget, or when the total is needed.
    """

    def __init__(self, budget: int) -> None:
        self.budget, self.closed = budget, False  # closed once a step was refused
        self._read = self._at_most = 0  # steps that were counted; upper bound of those in `_unread`
        self._unread: list[Tensor] = []

    def spend(self, alive: Tensor) -> None:
        """Counts a control step of the instances that are alive, (B, E) bool, before it is played.

        Raises:
            BudgetSpent: it would exceed the budget.
        """
        if self.closed or self._read + self._at_most + alive.numel() > self.budget:
            needed = int(alive.sum())
            if self.closed or self.total + needed > self.budget:
                self.closed = True
                raise BudgetSpent(
                    f"the budget of {self.budget} env steps is used up: {self.total} were played, and the next "
                    f"control step needs {needed}"
                )
        self._unread.append(alive)
        self._at_most += alive.numel()

    @property
    def total(self) -> int:
        if self._unread:
            self._read += int(torch.cat([alive.flatten() for alive in self._unread]).sum())
            self._unread, self._at_most = [], 0
        return self._read


class PlayableTasks:
    """A meta-batch of training tasks; see `mrl_bench.agent.Tasks`."""

    def __init__(self, training: BudgetedTraining, env: BatchEnv, spec: EnvSpec) -> None:
        self._training, self._env, self._spec, self._times = training, env, spec, 0
        finalize(self, env.close)

    def collect(
        self, act: Act, state: State, memory: Memory = (), explore: bool = True
    ) -> tuple[Rollout, Memory]:
        seed, noise_seed = self._training.next_seeds()
        rollout, memory = play(
            self._env,
            self._env.reset(seed),
            self._spec,
            act,
            state,
            memory,
            noise_seed=noise_seed,
            explore=explore,
            spend=self._training.spend,
        )
        self._training.played(rollout, self._times)
        self._times += 1
        return rollout, memory
