"""Every agent survives simulations that break down, and learns once they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from goal_game import GameTasks, GoalGame, GoalTraining, goal_spec
from mrl_agents import TABLE
from mrl_agents.ppo import Ppo, PpoConfig
from test_agents import make
from torch import Tensor

from mrl_bench.agent import MetaAgent
from mrl_bench.protocol.training import meta_train
from mrl_bench.types import Step

HORIZON = 5
AGENTS = [*sorted(TABLE), "rl2:RL2"]
STOP_SOONER = ("random", "mbml")  # mbml after its rounds


def nothing(failed: Tensor, t: int) -> None:
    """Every episode fails in its first step."""


def one_step(failed: Tensor, t: int) -> None:
    """So do all but one, which fails in its second."""
    if t == 0:
        failed[0, 0] = False


def one_episode(failed: Tensor, t: int) -> None:
    failed[0, 0] = False


def one_task(failed: Tensor, t: int) -> None:
    failed[0] = False


class BreakingGame(GoalGame):
    """The game, in which nothing is valid but what `spare` clears in `failed`, (B, E) bool, of step t."""

    def __init__(self, tasks: int, episodes: int, spare: Callable[[Tensor, int], None]) -> None:
        super().__init__(tasks, episodes)
        self.spare, self.t = spare, 0

    def reset(self, seed: int) -> Tensor:
        self.t = 0
        return super().reset(seed)

    def step(self, action: Tensor) -> Step:
        step = super().step(action)
        failed = torch.ones_like(step.failed)
        self.spare(failed, self.t)
        self.t += 1
        return step._replace(failed=failed)


class BreakingTraining(GoalTraining):
    """Whose game breaks in every `period`-th meta-batch, the first among them."""

    def __init__(self, budget: int, spare: Callable[[Tensor, int], None], period: int = 1) -> None:
        super().__init__(budget, HORIZON)
        self.spare, self.period, self.batches = spare, period, 0

    def tasks(self, count: int, episodes: int) -> GameTasks:
        self.batches += 1
        if (self.batches - 1) % self.period:
            return super().tasks(count, episodes)
        return GameTasks(self, BreakingGame(count, episodes, self.spare))


def tensors_of(agent: MetaAgent) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in agent.state_dict().items()}


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("spare", [nothing, one_step, one_episode, one_task])
@pytest.mark.parametrize("period", [1, 2])
def test_meta_training_survives_what_breaks_down(name: str, spare: Any, period: int) -> None:
    budget = 1_000 if period > 1 else 150  # broken episodes last for a step, so that there are many updates
    agent, training = make(name, goal_spec(HORIZON)), BreakingTraining(budget, spare, period)
    before = tensors_of(agent)
    meta_train(agent, training)
    after = tensors_of(agent)
    assert training.left == 0 or name in STOP_SOONER
    assert all(tensor.isfinite().all() for tensor in after.values())
    assert all(torch.as_tensor(value).isfinite() for values in training.logged for value in values.values())
    if spare is nothing and period == 1:
        assert all(torch.equal(tensor, before[key]) for key, tensor in after.items())
    if period > 1 and before:
        assert not all(torch.equal(tensor, before[key]) for key, tensor in after.items())


@pytest.mark.parametrize("spare", [nothing, one_step, one_episode, one_task])
def test_trpo_survives_what_breaks_down(spare: Any) -> None:
    agent = make("maml", goal_spec(HORIZON), outer_update="trpo", learn_inner_lr=True)
    meta_train(agent, BreakingTraining(2_000, spare, period=2))
    assert all(tensor.isfinite().all() for tensor in agent.state_dict().values())


def test_a_single_step_teaches_ppo_its_value_and_no_action() -> None:
    """Advantages are relative to those of the batch, and here there is one."""
    agent = Ppo(goal_spec(HORIZON), PpoConfig(meta_batch_size=2), 0, torch.device("cpu"))
    before = tensors_of(agent)
    meta_train(agent, BreakingTraining(3, one_step))
    for key, tensor in tensors_of(agent).items():
        if not key.startswith("obs_"):  # the moments of observations
            assert torch.equal(tensor, before[key]) != (key.startswith("critic_") or key == "value_scale"), (
                key
            )
