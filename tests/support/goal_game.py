"""A small game for training in tests: walk to a hidden goal. Its optimum is known."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mrl_bench.agent import Act
from mrl_bench.protocol.rollout import play
from mrl_bench.protocol.training import StepCount
from mrl_bench.types import EnvSpec, Memory, Rollout, State, Step


def goal_spec(horizon: int) -> EnvSpec:
    return EnvSpec(obs_dim=3, act_dim=2, horizon=horizon, dt=0.1, obs_scale=(2.0, 2.0, 1.0))


class GoalGame:
    """B x E walkers in the plane. A step moves by the action and pays minus the squared distance to the goal.

    The goal is (0.5, 0) in tasks of even index and (-0.5, 0) in the others. An observation is the position and 1.
    """

    def __init__(self, tasks: int, episodes: int) -> None:
        side = 0.5 - torch.arange(tasks) % 2
        self.goal = torch.stack([side, torch.zeros(tasks)], -1)[:, None]  # (B, 1, 2)
        self.place = torch.zeros(tasks, episodes, 2)

    def reset(self, seed: int) -> Tensor:
        self.place = torch.zeros_like(self.place)
        return self._observe()

    def step(self, action: Tensor) -> Step:
        self.place = self.place + action.clamp(-1.0, 1.0)
        never = torch.zeros(self.place.shape[:2], dtype=torch.bool)
        return Step(self._observe(), -(self.place - self.goal).square().sum(-1), never, never)

    def close(self) -> None:
        pass

    def _observe(self) -> Tensor:
        return torch.cat([self.place, torch.ones_like(self.place[..., :1])], -1)


class GoalTraining:
    """Meta-training on the game; see `mrl_bench.agent.Training`."""

    def __init__(self, budget: int, horizon: int = 1) -> None:
        self.budget, self.spec, self.count = budget, goal_spec(horizon), StepCount(budget)
        self.collections = 0
        self.logged: list[Mapping[str, float | Tensor]] = []

    @property
    def steps(self) -> int:
        return self.count.total

    @property
    def left(self) -> int:
        return 0 if self.count.closed else self.budget - self.steps

    def tasks(self, count: int, episodes: int) -> GameTasks:
        return GameTasks(self, GoalGame(count, episodes))

    def close(self) -> None:
        self.count.closed = True

    def log(self, values: Mapping[str, float | Tensor]) -> None:
        self.logged.append(values)


class GameTasks:
    def __init__(self, training: GoalTraining, game: GoalGame) -> None:
        self._training, self._game = training, game

    def collect(
        self, act: Act, state: State, memory: Memory = (), explore: bool = True
    ) -> tuple[Rollout, Memory]:
        training = self._training
        training.collections += 1
        result = play(
            self._game,
            self._game.reset(training.collections),
            training.spec,
            act,
            state,
            memory,
            noise_seed=training.collections,
            explore=explore,
            spend=training.count.spend,
        )
        assert training.count.total  # is read here, where the harness may wait for the device
        return result
