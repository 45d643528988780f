"""What MAML-MBML adds to its two parts, on a game whose tasks differ in a wind."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from goal_game import GameTasks, GoalGame, GoalTraining, goal_spec
from mrl_agents.advantage import masked_mean
from mrl_agents.maml_mbml import MamlMbml
from mrl_agents.replay import transitions_of
from torch import Generator, Tensor

from mrl_bench.protocol.rollout import collect
from mrl_bench.protocol.training import meta_train
from mrl_bench.scenario.settings import make_config
from mrl_bench.types import Rollout, State, Step

HORIZON = 10
SETTINGS = {
    "mbml": {
        "rounds": 3,
        "meta_batch_size": 40,
        "hidden_sizes": [32],
        "model_hidden_size": 32,
        "context_dim": 2,
        "encoder_hidden_size": 16,
        "model_iterations": 40,
        "policy_iterations": 2,
        "imagination_horizon": 5,
        "adapt_imagined_rollouts": 4,
        "context_lengths": [8, 16],
    },
    "maml": {"meta_batch_size": 10},
    "model_inner_batch_size": 16,
    "model_iterations": 250,
}


class WindyGame(GoalGame):
    """The game of goals, in which each task has a different wind that also moves the walker."""

    def __init__(self, tasks: int, episodes: int, seed: int) -> None:
        super().__init__(tasks, episodes)
        self.wind = torch.rand(tasks, 1, 2, generator=Generator().manual_seed(seed)) - 0.5

    def step(self, action: Tensor) -> Step:
        self.place = self.place + self.wind
        return super().step(action)


class WindyTraining(GoalTraining):
    def tasks(self, count: int, episodes: int) -> Any:
        return GameTasks(self, WindyGame(count, episodes, seed=1 + self.collections))


@cache
def trained() -> MamlMbml:
    agent = MamlMbml(goal_spec(HORIZON), make_config(MamlMbml, SETTINGS), 0, torch.device("cpu"))
    meta_train(agent, WindyTraining(4_500, HORIZON))
    return agent


def after_rounds(agent: MamlMbml, rounds: int) -> tuple[State, Rollout]:
    """The agent's state on 50 new tasks after some rounds, and one more round that it has not seen."""
    game, state = WindyGame(50, 1, seed=10**6), agent.initial_state(50)
    for k in range(rounds + 1):
        fresh, _ = collect(game, agent.spec, agent, state, seed=k, noise_seed=k, explore=True)
        if k < rounds:
            state = agent.adapt(state, (), fresh, Generator().manual_seed(k))
    return state, fresh


def test_a_model_step_lowers_the_held_out_error_on_nine_of_ten_new_tasks() -> None:
    agent = trained()
    state, fresh = after_rounds(agent, 2)
    batch, mask = transitions_of(fresh)
    with torch.no_grad():
        shared, adapted = (
            masked_mean(agent._errors(model, batch, state["z"])["dynamics"].mean(1), mask, (1,))
            for model in (agent.mbml.model, state["model"])
        )
    assert (adapted < shared).double().mean() >= 0.9
    assert adapted.mean() < 0.8 * shared.mean()


def test_real_steps_are_taken_in_the_rounds_that_meta_training_had() -> None:
    agent = trained()
    once, twice = (after_rounds(agent, rounds)[0]["stepped"] for rounds in (1, 2))
    blank = agent.initial_state(50)["stepped"]
    assert not torch.equal(once["w0"], blank["w0"])
    assert torch.equal(once["w0"], twice["w0"])


def test_imagination_starts_from_the_real_step_and_moves_by_its_learned_weight() -> None:
    agent = trained()
    state, _ = after_rounds(agent, 1)
    stepped, policy = state["stepped"], state["policy"]
    added = {key: torch.ones_like(value) for key, value in stepped.items()}
    moved = agent.maml.with_imagined_update(stepped, added)
    for key, log_weight in agent.maml.log_imagination_weight.items():
        torch.testing.assert_close(moved[key] - stepped[key], log_weight.exp().detach().expand_as(moved[key]))
        assert not torch.equal(policy[key], stepped[key])
    assert torch.equal(policy["log_std"], stepped["log_std"])


@pytest.mark.parametrize(
    ("off", "moves"),
    [
        ({"maml": {"inner_steps": 0}}, {"stepped": False, "policy": True}),
        ({"mbml": {"adapt_updates": 0}}, {"stepped": True, "policy": False}),
    ],
)
def test_an_ablation_leaves_out_what_it_names(off: dict[str, Any], moves: dict[str, bool]) -> None:
    """Whether the real step moves the policy that a task begins with, and imagination the one after it."""
    settings = {
        key: {**value, **off.get(key, {})} if isinstance(value, dict) else value
        for key, value in SETTINGS.items()
    }
    agent = MamlMbml(goal_spec(HORIZON), make_config(MamlMbml, settings), 0, torch.device("cpu"))
    agent.load_state_dict(trained().state_dict())
    state, _ = after_rounds(agent, 1)
    blank = agent.initial_state(50)["policy"]
    assert torch.equal(state["stepped"]["w0"], blank["w0"]) != moves["stepped"]
    assert torch.equal(state["policy"]["w0"], state["stepped"]["w0"]) != moves["policy"]


def test_without_model_steps_the_model_is_the_shared_one() -> None:
    agent = MamlMbml(
        goal_spec(HORIZON), make_config(MamlMbml, SETTINGS | {"model_inner_steps": 0}), 0, torch.device("cpu")
    )
    agent.load_state_dict(trained().state_dict())
    model = after_rounds(agent, 1)[0]["model"]
    for key, value in model.items():
        assert torch.equal(value, agent.mbml.model[key].detach().expand_as(value)), key
