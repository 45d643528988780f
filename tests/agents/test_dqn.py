"""DQN: its targets and gradients against numbers worked out by hand, what a new task changes, and that it learns."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_kit import make_training
from goal_game import GoalGame, GoalTraining, goal_spec
from mrl_agents.dqn import Dqn, DqnConfig
from mrl_agents.replay import Transitions, stored
from torch import Tensor

from mrl_bench.protocol.adaptation import evaluate
from mrl_bench.protocol.rollout import collect
from mrl_bench.protocol.training import meta_train
from mrl_bench.scenario import find_scenario
from mrl_bench.types import EnvSpec, Rollout, State, TimeStep

CPU = torch.device("cpu")
B, N, O, A, LEVELS = 3, 6, 3, 2, 3  # noqa: E741 - the letter of the observation axis
SPEC = EnvSpec(obs_dim=O, act_dim=A, horizon=5, dt=0.1)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(**settings: Any) -> Dqn:
    return Dqn(SPEC, DqnConfig(hidden_sizes=(8,), action_bins=LEVELS, **settings), 0, CPU)


def transitions() -> Transitions:
    level = torch.randint(LEVELS, (B, N, A), generator=rng(1))
    return {
        "obs": torch.randn(B, N, O, generator=rng(2)),
        "action": torch.linspace(-1, 1, LEVELS)[level],
        "next_obs": torch.randn(B, N, O, generator=rng(3)),
        "reward": 5 * torch.randn(B, N, generator=rng(4)),
        "terminated": (torch.rand(B, N, generator=rng(5)) < 0.3).float(),
    }


def episodes(reward: float = 1.0) -> Rollout:
    """Two of five steps for each task."""
    shape = (B, 2, SPEC.horizon)
    return Rollout(
        obs=torch.randn(B, 2, SPEC.horizon + 1, O, generator=rng(6)),
        action=2 * torch.rand(*shape, A, generator=rng(7)) - 1,
        reward=torch.full(shape, reward),
        terminated=torch.zeros(shape, dtype=torch.bool),
        mask=torch.ones(shape),
        failed=torch.zeros(B, 2, dtype=torch.bool),
    )


def last(episodes: int) -> TimeStep:
    obs = torch.randn(B, episodes, O, generator=rng(8))
    return TimeStep(obs, torch.zeros(B, episodes, A), torch.zeros(B, episodes), torch.ones(B, episodes), 0)


def weights_of(state: State) -> Tensor:
    """(B, everything)."""
    return torch.cat([x.flatten(1) for x in state["weights"].values()], 1)


def q_by_hand(agent: Dqn, obs: Tensor, action: tuple[float, ...]) -> float:
    """Q of one observation (O,) and one of the levels^A actions, in the agent's unit."""
    w = {key: x[0] for key, x in agent.learner["weights"].items()}
    heads = ((obs @ w["w0"] + w["b0"]).relu() @ w["w1"] + w["b1"]).view(A, LEVELS)
    return sum(heads[d][round(a + 1)].item() for d, a in enumerate(action)) / A


def test_a_target_takes_the_best_of_all_actions() -> None:
    agent, batch = make(gamma=0.8), transitions()
    unit = 1 + 0.8 + 0.64 + 0.512 + 0.4096  # of five steps
    target = agent._target(agent._copies(B)["target"], batch)
    for b, n in product(range(B), range(N)):
        actions = product((-1.0, 0.0, 1.0), repeat=A)
        best = max(q_by_hand(agent, batch["next_obs"][b, n], action) for action in actions)
        following = 0.0 if batch["terminated"][b, n] else 0.8 * best
        assert target[b, n].item() == pytest.approx(batch["reward"][b, n].item() / unit + following, abs=1e-5)


def test_the_loss_is_hubers_of_the_action_that_was_taken() -> None:
    agent, batch = make(), transitions()
    goal = 3 * torch.randn(B, N, generator=rng(9))
    _, loss = agent._gradient(agent._copies(B)["weights"], batch, goal)
    for b in range(B):
        misses = [
            abs(
                q_by_hand(agent, batch["obs"][b, n], tuple(batch["action"][b, n].tolist()))
                - goal[b, n].item()
            )
            for n in range(N)
        ]
        assert max(misses) > 1 > min(misses), "both branches are tried"
        expected = sum(0.5 * x**2 if x < 1 else x - 0.5 for x in misses) / N
        assert loss[b].item() == pytest.approx(expected, abs=1e-5)


def test_scored_actions_are_the_best_ones() -> None:
    agent, seen = make(), last(4)
    action, _ = agent.act(agent.initial_state(B), (), seen, False, rng())
    for b, e in product(range(B), range(4)):
        best = max(
            product((-1.0, 0.0, 1.0), repeat=A), key=lambda a, obs=seen.obs[b, e]: q_by_hand(agent, obs, a)
        )
        assert tuple(action[b, e].tolist()) == best


def test_exploration_falls_with_the_steps_of_the_task() -> None:
    agent = make(epsilon=0.1, epsilon_steps=40, adapt_updates=0)
    state, seen = agent.initial_state(B), last(2000)
    greedy, _ = agent.act(state, (), seen, False, rng())
    shares = []
    for _ in range(6):
        action, _ = agent.act(state, (), seen, True, rng())
        shares.append((action != greedy).any(-1).float().mean().item())
        state = agent.adapt(state, (), episodes(), rng())
    differs = 1 - LEVELS**-A  # how often a random action is another one
    assert shares == pytest.approx([differs * e for e in (1, 0.775, 0.55, 0.325, 0.1, 0.1)], abs=0.03)


def test_a_new_task_takes_its_own_steps_on_its_own_memory() -> None:
    rollout = episodes()
    rollout.mask[1] = 0  # task 1 broke down in its first step
    before = weights_of(make().initial_state(B))
    for updates in (1, 7):
        agent = make(adapt_updates=updates, adapt_buffer_size=4)
        state = agent.adapt(agent.initial_state(B), (), rollout, rng())
        assert stored(state["buffer"]).tolist() == [4, 0, 4]
        assert state["counts"]["updates"].tolist() == [updates, 0, updates]
        moved = (weights_of(state) - before).abs().amax(1)
        assert moved[1] == 0, "there is nothing to learn from"
        assert 0 < moved[[0, 2]].max() <= 1.01e-3 * updates, "a step of Adam is no longer than its rate"


def test_adaptation_goes_on_where_meta_training_ended() -> None:
    agent = Dqn(goal_spec(5), DqnConfig(hidden_sizes=(8,), meta_batch_size=4), 0, CPU)
    meta_train(agent, GoalTraining(500, horizon=5))
    for tensors, ours in zip(agent.initial_state(B).values(), agent.learner.values(), strict=False):
        for key, x in ours.items():
            assert torch.equal(tensors[key], x.expand(B, *x.shape[1:])), key
    assert agent.learner["counts"]["env_steps"].item() == 500
    assert agent.learner["counts"]["updates"].item() == 50


def test_from_scratch_there_is_no_meta_training() -> None:
    training = GoalTraining(500, horizon=5)
    agent = Dqn(goal_spec(5), DqnConfig(from_scratch=True), 0, CPU)
    meta_train(agent, training)
    assert training.steps == 0
    assert not any(x.any() for x in agent.learner["moments"].values())


def test_a_task_learned_from_scratch_finds_its_goal() -> None:
    """Of the nine actions, to stay and to step towards the goal are best: each ends 0.5 away from it."""
    spec, tasks = goal_spec(1), 4
    config = DqnConfig(hidden_sizes=(16,), from_scratch=True, adapt_updates=300, epsilon_steps=100)
    agent = Dqn(spec, config, 0, CPU)
    state = agent.initial_state(tasks)

    def play(explore: bool) -> Rollout:
        return collect(GoalGame(tasks, 50), spec, agent, state, seed=0, noise_seed=0, explore=explore)[0]

    state = agent.adapt(state, (), play(explore=True), rng())
    assert play(explore=False).returns().mean() == pytest.approx(-0.25, abs=1e-6)


# -- at full size -----------------------------------------------------------------------------------------------

CARTPOLE = """\
id: cartpole-v1
doc: Gymnasium's CartPole-v1.
family: cartpole
options: {control: bang_bang}
horizon: 500
params: {gravity: {uniform: [9.8, 9.8000001]}}  # all tasks are the same in float32
splits:
  test: {count: 1, seed: 1, may_repeat_train: true}
budget: {meta_train: 8e4, blind: 8e4, oracle: 8e4}
protocol: {k: [0], scored_episodes: 50}
"""


@pytest.mark.slow
def test_it_solves_cartpole(tmp_path: Path) -> None:
    path = tmp_path / "cartpole-v1.yaml"
    path.write_text(CARTPOLE)
    scenario = find_scenario(path)
    agent = Dqn(scenario.family.spec, DqnConfig(meta_batch_size=4, update_every=4), 0, CPU)
    meta_train(agent, make_training(scenario, budget=int(scenario.budget.meta_train)))
    curve = evaluate(agent, scenario, "test", seed=0, device=CPU)
    assert curve.returns.shape == (1, 1, 50)
    assert curve.returns.mean() >= 475
