"""Observations with the last actions: what is played and what is learned from must agree."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from goal_game import GoalTraining, goal_spec
from mrl_agents.action_history import no_history, observe, with_history, with_history_spec
from mrl_agents.mbml import Mbml, MbmlConfig
from test_agents import make, noise

from mrl_bench.protocol.training import meta_train
from mrl_bench.types import EnvSpec, Rollout, TimeStep

SPEC = EnvSpec(obs_dim=3, act_dim=2, horizon=6, dt=0.1, obs_scale=(2.0, 3.0, 4.0))
CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "rounds": 2,
    "meta_batch_size": 4,
    "model_iterations": 2,
    "policy_iterations": 2,
    "action_history": 3,
}


def test_a_rollout_shows_the_actions_that_were_remembered_while_it_was_played() -> None:
    rng = torch.Generator().manual_seed(0)
    obs, action = torch.randn(2, 5, 7, 3, generator=rng), 2.0 * torch.randn(2, 5, 6, 2, generator=rng)
    history, seen = no_history(SPEC, 2, 5, 3, CPU), []
    for t in range(7):
        last = action[:, :, t - 1] if t else torch.zeros(2, 5, 2)
        step = TimeStep(obs[:, :, t], last, torch.zeros(2, 5), torch.ones(2, 5), t)
        now, history = observe(step, history)
        seen.append(now)
    zeros = torch.zeros(2, 5, 6)
    rollout = Rollout(obs, action, zeros, zeros.bool(), zeros + 1.0, torch.zeros(2, 5, dtype=torch.bool))
    assert torch.equal(with_history(rollout, 3).obs, torch.stack(seen, 2))
    latest = seen[4][..., 3:]  # of the fourth step: the actions 3, 2 and 1, as they took effect
    assert torch.equal(latest, action[:, :, [3, 2, 1]].clamp(-1.0, 1.0).flatten(2))


def test_the_spec_grows_by_the_actions() -> None:
    spec = with_history_spec(SPEC, 2)
    assert (spec.obs_dim, spec.obs_scale) == (7, (2.0, 3.0, 4.0, 1.0, 1.0, 1.0, 1.0))
    assert with_history_spec(SPEC, 0) == SPEC


def test_mbml_learns_from_what_it_observed_when_it_acted() -> None:
    agent = Mbml(goal_spec(20), MbmlConfig(**SMALL), 0, CPU)
    seen: list[torch.Tensor] = []
    mean = agent._mean
    agent._mean = lambda policy, obs, z: (seen.append(obs), mean(policy, obs, z))[1]  # type: ignore[method-assign]
    agent._gather(GoalTraining(4000, horizon=20))
    played = torch.stack(seen, 2)  # (B, E, T, O): the first round plays two episodes at once, with z = 0
    assert torch.equal(agent.replay.buffer["obs"][:4, :40], played.flatten(1, 2))


@pytest.mark.parametrize("name", ["mbml", "maml-mbml"])
def test_an_agent_with_a_history_acts_by_it(name: str) -> None:
    spec, settings = (
        goal_spec(20),
        SMALL if name == "mbml" else {f"mbml.{key}": value for key, value in SMALL.items()},
    )
    agent = make(name, spec, **settings)
    meta_train(agent, GoalTraining(4000, horizon=20))
    state = agent.initial_state(3)
    step = TimeStep(torch.zeros(3, 2, 3), torch.zeros(3, 2, 2), torch.zeros(3, 2), torch.ones(3, 2), 0)
    actions = []
    for last in (-1.0, 1.0):
        memory = agent.start_episode(state, 2)
        action, _ = agent.act(
            state, memory, step._replace(action=torch.full((3, 2, 2), last)), False, noise()
        )
        actions.append(action)
    assert not torch.equal(*actions)
