"""Meta-training: gives an agent new training tasks, counts env steps, and enforces the budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from weakref import finalize

from mrl_bench.agent import Act
from mrl_bench.errors import BudgetSpent
from mrl_bench.family import BatchEnv
from mrl_bench.keyed_random import seed_of
from mrl_bench.protocol.privileged import agent_spec, make_env
from mrl_bench.protocol.rollout import collect
from mrl_bench.types import EnvSpec, Rollout, State

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mrl_bench.scenario import Scenario

Log = Callable[[Mapping[str, float], int], None]  # (tag -> value, step)
Watch = Callable[[int], None]  # called with the env steps so far, whenever the agent asks for new tasks

# Each training seed reads its own part of the scenario's task stream.
_TASKS_PER_SEED = 2**32


class BudgetedTraining:
    """One meta-training run of a scenario; see `mrl_bench.agent.Training`."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        budget: int,
        seed: int,
        device: torch.device,
        privileged: bool,
        log: Log,
        watch: Watch = lambda steps: None,
    ) -> None:
        self._scenario, self._seed, self._device, self._privileged = scenario, seed, device, privileged
        self._budget, self._steps, self._log, self._watch = budget, 0, log, watch
        self._drawn = self._collected = 0
        self._started = time.perf_counter()

    @property
    def budget(self) -> int:
        return self._budget

    @property
    def steps(self) -> int:
        return self._steps

    @property
    def left(self) -> int:
        return self._budget - self._steps

    def tasks(self, count: int, episodes: int) -> PlayableTasks:
        asked = time.perf_counter()
        self._watch(self._steps)
        self._started += time.perf_counter() - asked  # excluded from the steps per second
        draw = self._scenario.privileged_stream if self._privileged else self._scenario.stream
        batch = draw(self._seed * _TASKS_PER_SEED + self._drawn, count)
        self._drawn += count
        env = make_env(self._scenario, batch, episodes, self._device, self._privileged)
        return PlayableTasks(self, env, agent_spec(self._scenario, self._privileged))

    def log(self, values: Mapping[str, float | Tensor]) -> None:
        self._log({tag: float(value) for tag, value in values.items()}, self._steps)

    def played(self, rollout: Rollout, times: int) -> None:
        """Counts a rollout, the `times`-th on its tasks (from 0)."""
        self._steps += int(
            rollout.mask.sum() + rollout.failed.sum()
        )  # a step in which the simulation failed counts
        self._collected += 1
        self.log(
            {
                f"charts/episodic_return_{times}": rollout.returns().mean(),
                f"charts/episodic_length_{times}": rollout.lengths().mean(),
                "charts/SPS": self._steps / (time.perf_counter() - self._started),
            }
        )

    def next_seeds(self) -> tuple[int, int]:
        """Seeds of the next collection: of the initial states, and of the agent's noise."""
        where = (self._scenario.id, self._seed, self._collected)
        return seed_of("train", "episodes", *where), seed_of("train", "noise", *where)


class PlayableTasks:
    """A meta-batch of training tasks; see `mrl_bench.agent.Tasks`."""

    def __init__(self, training: BudgetedTraining, env: BatchEnv, spec: EnvSpec) -> None:
        self._training, self._env, self._spec, self._times = training, env, spec, 0
        finalize(self, env.close)

    def collect(self, act: Act, state: State, explore: bool = True) -> tuple[Rollout, State]:
        if self._training.left <= 0:
            raise BudgetSpent(f"the budget of {self._training.budget} env steps is used up")
        seed, noise_seed = self._training.next_seeds()
        rollout, state = collect(
            self._env, self._spec, act, state, seed=seed, noise_seed=noise_seed, explore=explore
        )
        self._training.played(rollout, self._times)
        self._times += 1
        return rollout, state
