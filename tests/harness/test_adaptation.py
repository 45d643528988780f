"""The adaptation protocol, as agents that keep a record of it saw it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bench_kit import make_scenario
from toy_agents import Learner, NotFinite, ToyConfig, Writes

from mrl_bench.protocol.adaptation import evaluate
from mrl_bench.protocol.privileged import agent_spec

CPU = torch.device("cpu")


class Recorder(Learner):
    """Learner that keeps what it was shown. (A submission must not: state belongs in `state`.)"""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.adapted, self.scored = [], []  # rollouts; (first obs, state) of each scored collection

    def act(self, state, last, explore, rng):
        if last.t == 0 and not explore:
            self.scored.append((last.obs.clone(), state["push"].clone()))
        return super().act(state, last, explore, rng)

    def adapt(self, state, rollout, rng):
        self.adapted.append(rollout)
        return super().adapt(state, rollout, rng)


class ScribblesInState(Recorder):
    """Changes its state in place while it acts."""

    def act(self, state, last, explore, rng):
        result = super().act(state, last, explore, rng)
        state["push"] += last.obs[..., 0].mean(1, keepdim=True)
        return result


@pytest.fixture
def scenario(tmp_path):
    return make_scenario(tmp_path)


def make(cls, scenario, seed=0, **settings):
    agent = cls(agent_spec(scenario, False), ToyConfig(**settings), seed, CPU)
    agent.push = torch.full((1,), 0.1 * seed + 0.1)
    return agent


def score(agent, scenario, split="test", seed=0):
    return evaluate(agent, scenario, split, seed=seed, device=CPU)


def test_every_task_has_its_quota_at_every_point_of_the_protocol(scenario):
    for split, tasks in (("test", 3), ("ood", 2), ("train", 3)):
        curve = score(make(Learner, scenario), scenario, split)
        assert curve.k == (0, 2, 6)
        assert curve.returns.shape == (tasks, 3, 3)  # tasks, points, scored episodes
        assert curve.env_steps.shape == curve.failed.shape == (tasks, 3)
        assert np.isfinite(curve.returns).all()


def test_env_steps_are_those_of_the_adaptation_episodes_of_each_task(scenario):
    agent = make(Recorder, scenario)
    curve = score(agent, scenario)
    assert len(agent.adapted) == 3  # after the last round nothing is left to adapt for
    assert all(rollout.mask.shape[:2] == (3, 2) for rollout in agent.adapted)
    played = np.cumsum([rollout.mask.sum((1, 2)).numpy() for rollout in agent.adapted], 0)
    assert curve.env_steps[:, 0].tolist() == [0, 0, 0]
    assert curve.env_steps[:, 1].tolist() == played[0].tolist()
    assert curve.env_steps[:, 2].tolist() == played[2].tolist()


def test_adapt_never_sees_a_scored_episode(scenario):
    agent = make(Recorder, scenario)
    score(agent, scenario)
    scored = {tuple(row) for obs, _ in agent.scored for row in obs.flatten(0, 1).tolist()}
    adapted = {tuple(row) for rollout in agent.adapted for row in rollout.obs[:, :, 0].flatten(0, 1).tolist()}
    assert len(scored) == 9
    assert len(adapted) == 18  # three rounds of two episodes of three tasks, each with its own initial state
    assert not scored & adapted


def test_scored_starts_are_the_same_for_every_point_seed_and_agent(scenario):
    agents = [make(Recorder, scenario, seed=seed) for seed in (0, 3)] + [make(ScribblesInState, scenario)]
    for agent, seed in zip(agents, (0, 3, 1), strict=True):
        score(agent, scenario, seed=seed)
    first = agents[0].scored[0][0]
    for agent in agents:
        assert len(agent.scored) == 3
        assert all(torch.equal(obs, first) for obs, _ in agent.scored)


def test_what_a_scored_episode_does_to_the_state_is_gone_after_it(scenario):
    """Scores go on from the state that adaptation left: with no scored point between, the last one is the same."""
    often = make_scenario(scenario.path.parent, protocol={"k": [0, 2, 4, 6], "scored_episodes": 3})
    once = make_scenario(scenario.path.parent, protocol={"k": [0, 6], "scored_episodes": 3})
    for cls in (Learner, ScribblesInState):
        curves = [score(make(cls, each), each) for each in (often, once)]
        assert curves[0].returns[:, -1].tolist() == curves[1].returns[:, -1].tolist()


def test_the_agent_is_as_it_was(scenario):
    agent = make(Learner, scenario)
    before = {name: tensor.clone() for name, tensor in agent.state_dict().items()}
    one, other = (score(agent, scenario) for _ in range(2))
    assert one.returns.tolist() == other.returns.tolist()
    assert all(torch.equal(before[name], tensor) for name, tensor in agent.state_dict().items())


def test_seeds_differ_in_noise_alone(scenario):
    agent = make(Learner, scenario)
    assert score(agent, scenario, seed=0).returns.tolist() != score(agent, scenario, seed=1).returns.tolist()


def test_an_agent_that_writes_into_what_it_sees_scores_what_it_would_have_scored(scenario):
    sane, writing = (score(make(cls, scenario), scenario) for cls in (Learner, Writes))
    assert sane.returns.tolist() == writing.returns.tolist()


def test_failures_count_from_their_round_on_and_a_scored_one_only_in_its_point(scenario):
    class FailsInRound(Learner):
        """Its action is NaN in one episode of task 1 in the second round, and in one scored episode of task 2."""

        def initial_state(self, num_tasks):
            return super().initial_state(num_tasks) | {"round": torch.zeros(num_tasks, 1)}

        def act(self, state, last, explore, rng):
            action, state = super().act(state, last, explore, rng)
            round = int(state["round"][0])
            if last.t == 1 and explore and round == 1:
                action[1, 0] = torch.nan
            if last.t == 1 and not explore and round == 1:
                action[2, 2] = torch.nan
            return action, state

        def adapt(self, state, rollout, rng):
            return super().adapt(state, rollout, rng) | {"round": state["round"] + 1}

    curve = score(make(FailsInRound, scenario), scenario)
    assert curve.failed.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_actions_that_are_never_finite_fail_everywhere_and_earn_nothing(scenario):
    curve = score(make(NotFinite, scenario), scenario)
    assert curve.returns.tolist() == np.zeros((3, 3, 3)).tolist()
    assert curve.failed.tolist() == [[3, 5, 9]] * 3  # 3 scored episodes, and 2 of each round so far
    assert curve.env_steps.tolist() == [[0, 2, 6]] * 3


def test_the_tasks_of_a_split_do_not_depend_on_the_agent_but_the_curve_does(scenario):
    curves = [score(make(Learner, scenario, gain=1.0, seed=seed), scenario) for seed in (0, 5)]
    assert curves[0].returns.tolist() != curves[1].returns.tolist()
