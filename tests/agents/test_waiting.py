"""No agent waits for its device while it acts, imagines or learns; on a GPU each wait would stop what could run ahead.

A wait shows on the CPU too, as an operation whose result the host needs before it can go on: a number taken out of a
tensor, or a result whose shape depends on values. Whether CUDA agrees is asked of CUDA itself where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

import numpy as np
import pytest
import torch
from goal_game import GoalTraining, goal_spec
from mrl_agents import maml, maml_mbml
from mrl_agents.replay import Replay
from mrl_tasks.cartpole import CartPole
from mrl_tasks.driving import Driving
from mrl_tasks.driving.environment import DrivingEnv
from test_agents import B, E, config_of, noise
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from mrl_bench import registry
from mrl_bench.agent import Act
from mrl_bench.family import BatchEnv, TaskFamily
from mrl_bench.protocol.training import meta_train
from mrl_bench.types import Memory, Rollout, State, TaskBatch, TimeStep

HORIZON = 5
# The reference agents `blind` and `oracle` are not among them: PPO selects the valid steps once per batch.
LEARNERS = ("dqn", "maml", "mbml", "maml-mbml")
WAITING = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::equal",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::repeat_interleave",
}


class Wait(Exception):
    """An operation would have waited for the device."""


class NoWaiting(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        by_mask = func._schema.name.startswith("aten::index") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool
            for group in args
            if isinstance(group, (list, tuple))
            for index in group
        )
        if func._schema.name in WAITING or by_mask:
            raise Wait(func._schema.name)
        return func(*args, **(kwargs or {}))


@contextmanager
def harness_may_wait() -> Iterator[None]:
    """What counts env steps and writes logs waits."""
    with _disable_current_modes():
        yield


class WatchedTraining(GoalTraining):
    """The game's training, in which the agent alone is watched."""

    def tasks(self, count: int, episodes: int) -> Any:
        return WatchedTasks(super().tasks(count, episodes))

    def log(self, values: Mapping[str, float | Tensor]) -> None:
        assert values.keys()


class WatchedTasks:
    def __init__(self, tasks: Any) -> None:
        self.inner = tasks

    def collect(
        self, act: Act, state: State, memory: Memory = (), explore: bool = True
    ) -> tuple[Rollout, Memory]:
        def watched(
            state: State, memory: Memory, step: TimeStep, explore: bool, rng: Generator
        ) -> tuple[Tensor, Memory]:
            with NoWaiting():
                return act(state, memory, step, explore, rng)

        with harness_may_wait():
            result: tuple[Rollout, Memory] = self.inner.collect(watched, state, memory, explore)
            return result


@pytest.fixture
def _what_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam counts its steps on the host; the others are called once after a collection, which waits anyway."""
    for owner, name in (
        (torch.optim.Adam, "step"),
        (maml, "nothing_valid"),
        (maml_mbml, "nothing_valid"),
        (Replay, "with_data"),
    ):
        monkeypatch.setattr(owner, name, unwatched(getattr(owner, name)))


def unwatched(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any) -> Any:
        with harness_may_wait():
            return function(*args)

    return call


@pytest.mark.parametrize("wait", [lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: bool(x.any())])
def test_a_wait_is_noticed(wait: Any) -> None:
    with NoWaiting(), pytest.raises(Wait):
        wait(torch.ones(3))


@pytest.mark.usefixtures("_what_may_wait")
@pytest.mark.parametrize("name", LEARNERS)
def test_no_agent_waits_for_its_device(name: str) -> None:
    spec, device = goal_spec(HORIZON), torch.device("cpu")
    agent = registry.find("agent", name)(spec, config_of(name, {}), 0, device)
    training = WatchedTraining(2_500, HORIZON)
    with NoWaiting():
        meta_train(agent, training)
    assert training.collections > 1
    rollout, _ = (
        WatchedTraining(B * E * HORIZON, HORIZON).tasks(B, E).collect(agent.act, agent.initial_state(B))
    )
    with NoWaiting():
        agent.adapt(agent.initial_state(B), (), rollout, noise())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", LEARNERS)
def test_cuda_sees_no_agent_wait_when_it_acts_and_adapts(name: str) -> None:
    spec, device = goal_spec(HORIZON), torch.device("cuda")
    agent = registry.find("agent", name)(spec, config_of(name, {}), 0, device)
    rng, T = Generator(device).manual_seed(0), HORIZON
    rollout = Rollout(
        obs=torch.randn(B, E, T + 1, spec.obs_dim, device=device),
        action=torch.randn(B, E, T, spec.act_dim, device=device),
        reward=torch.randn(B, E, T, device=device),
        terminated=torch.zeros(B, E, T, dtype=torch.bool, device=device),
        mask=torch.ones(B, E, T, device=device),
        failed=torch.zeros(B, E, dtype=torch.bool, device=device),
    )
    last = TimeStep(
        rollout.obs[:, :, 1], rollout.action[:, :, 0], rollout.reward[:, :, 0], rollout.mask[:, :, 0], 1
    )
    torch.cuda.set_sync_debug_mode("error")
    try:
        agent.act(agent.adapt(agent.initial_state(B), (), rollout, rng), (), last, True, rng)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def as_built(family: TaskFamily) -> TaskBatch:
    """B tasks with the defaults of all parameters."""
    defaults = [param.default for param in family.params.values()]
    return TaskBatch(tuple(family.params), np.array([defaults] * B))


@pytest.mark.parametrize("name", ["cartpole", "driving"])
def test_no_simulation_waits_for_its_device_in_a_step(name: str) -> None:
    """Of those that compute in torch on a GPU; locomotion's is MuJoCo Warp, which cannot be watched like this."""
    device = torch.device("cpu")
    family: TaskFamily
    if name == "driving":
        family = driving = Driving(road="highway", traffic=3, events=True, horizon=60)
        env: BatchEnv = DrivingEnv(driving, as_built(driving), E, device, use_torch=True)
    else:
        family = CartPole(horizon=60)
        env = family.make(as_built(family), E, device)
    env.reset(0)
    action = torch.ones(B, E, family.spec.act_dim)
    ended = torch.zeros(B, E, dtype=torch.bool)
    for _ in range(60):
        with NoWaiting():
            ended = ended | env.step(action).terminated
    assert ended.all(), "no episode ended, so this watched little"
