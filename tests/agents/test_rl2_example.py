"""The example of an agent that learns within its episodes, examples/rl2.py."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bench_kit import make_scenario, make_training
from rl2 import RL2, RL2Config

from mrl_bench import check_agent, evaluate
from mrl_bench.checks import subject
from mrl_bench.protocol.training import meta_train
from mrl_bench.scenario import Scenario, find_scenario
from mrl_bench.types import Rollout, TimeStep

CPU = torch.device("cpu")
QUICK = RL2Config(hidden_size=8, head_size=8, meta_batch_size=3, num_minibatches=2)


def trained(scenario: Scenario, budget: int, config: RL2Config = QUICK) -> RL2:
    agent = RL2(scenario.spec, config, 0, CPU)
    meta_train(agent, make_training(scenario, budget=budget))
    return agent


def test_the_example_keeps_the_contract(monkeypatch: pytest.MonkeyPatch, forked_checks: None) -> None:
    monkeypatch.setattr(subject, "FULL_EPISODES", 2)
    check_agent("rl2:RL2")


def test_the_example_is_short() -> None:
    lines = (Path(__file__).parents[2] / "examples" / "rl2.py").read_text().splitlines()
    assert len(lines) < 200


def test_meta_training_moves_every_weight_and_logs_finite_losses(tmp_path: Path) -> None:
    scenario, logged = make_scenario(tmp_path), []
    agent = RL2(scenario.spec, QUICK, 0, CPU)
    before = {name: weight.clone() for name, weight in agent.state_dict().items()}
    training = make_training(scenario, budget=2_000, log=lambda values, step: logged.append(values))
    meta_train(agent, training)
    assert training.steps <= 2_000
    assert not any(torch.equal(weight, before[name]) for name, weight in agent.state_dict().items())
    losses = [value for values in logged for tag, value in values.items() if tag.startswith("losses/")]
    assert losses
    assert all(map(math.isfinite, losses))


def test_training_reads_what_the_agent_read_when_it_acted(tmp_path: Path) -> None:
    """Fed with the inputs that an update gets, the network ends each episode where the next one began."""
    scenario = make_scenario(tmp_path, horizon=60)
    agent = RL2(scenario.spec, QUICK, 0, CPU)
    rollout, inputs, hidden = agent._play(make_training(scenario, budget=10_000).tasks(3, 1))
    lengths = rollout.lengths().long()
    assert rollout.obs.shape[:2] == (3, max(scenario.protocol.k) + 1)
    assert len(lengths.unique()) > 1, "the test needs episodes of different lengths"
    for b in range(3):
        for e in range(max(scenario.protocol.k)):
            lived = inputs[b, e, : lengths[b, e]]
            _, _, last = agent.net(lived[None, None], hidden[None, b : b + 1, e])
            torch.testing.assert_close(last[0, 0], hidden[b, e + 1])


def test_an_episode_starts_with_the_end_of_the_one_before() -> None:
    agent = RL2(find_scenario("cartpole-wiring-v1").spec, QUICK, 0, CPU)
    mask = torch.tensor([[[1.0, 1.0, 1.0]], [[1.0, 0.0, 0.0]]])  # two tasks; the second ends at once
    action = torch.tensor([0.1, 0.2, -3.0]).expand(2, 1, 3)[..., None]
    rollout = Rollout(
        obs=torch.zeros(2, 1, 4, 4),
        action=action,
        reward=torch.tensor([0.5, 0.6, 0.7]).expand(2, 1, 3) * mask,
        terminated=torch.zeros(2, 1, 3, dtype=torch.bool),
        mask=mask,
        failed=torch.zeros(2, 1, dtype=torch.bool),
    )
    memory = torch.rand(2, 1, QUICK.hidden_size)
    state = agent.adapt(agent.initial_state(2), memory, rollout, torch.Generator())
    hidden, ending = state
    assert torch.equal(hidden, memory[:, 0])
    torch.testing.assert_close(ending, torch.tensor([[-1.0, 0.7, 1.0], [0.1, 0.5, 1.0]]))

    zeros = torch.zeros(2, 1)
    first = TimeStep(torch.zeros(2, 1, 4), zeros[..., None], zeros, zeros + 1, t=0)
    told, untold = (
        agent.act(known, agent.start_episode(state, 1), first, False, torch.Generator())[0]
        for known in (state, (hidden, torch.zeros_like(ending)))
    )
    assert (told != untold).all()


@pytest.mark.slow
def test_it_learns_from_episode_to_episode_within_ten_minutes_of_one_core() -> None:
    scenario = find_scenario("cartpole-wiring-v1")
    protocol = replace(scenario.protocol, k=tuple(range(11)), episodes_per_round=1)
    scenario = scenario.with_overrides(protocol=protocol)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    started = time.process_time()
    try:
        agent = trained(scenario, RL2Config().env_steps, RL2Config())
    finally:
        torch.set_num_threads(threads)
    seconds = time.process_time() - started
    returns = evaluate(agent, scenario).returns.mean((0, 2))  # (K,)
    assert seconds < 600
    assert returns[-1] >= 150, returns
    assert returns[1:].min() > returns[0] + 3, returns
    assert returns[5:].mean() > returns[1], returns
