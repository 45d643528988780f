"""The range of MBML's values, and what a saved agent holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from goal_game import GoalTraining, goal_spec
from mrl_agents.maml_mbml import MamlMbml
from mrl_agents.mbml import Mbml, MbmlConfig
from safetensors.torch import save
from test_agents import B, adapted_actions, last_of, make, noise, rollout_of
from torch import Tensor

from mrl_bench import registry
from mrl_bench.protocol.training import meta_train
from mrl_bench.types import EnvSpec


@pytest.mark.parametrize(("horizon", "steps"), [(20, 20.0), (1000, 100.0)])
def test_no_value_is_beyond_what_seen_rewards_add_up_to(horizon: int, steps: float) -> None:
    """Over an episode, or over the 1 / (1 - 0.99) steps that gamma = 0.99 looks ahead, whichever is less."""
    spec, rng = goal_spec(horizon), torch.Generator().manual_seed(0)
    agent = Mbml(spec, MbmlConfig(rounds=1, meta_batch_size=1), 0, torch.device("cpu"))
    agent.scales |= {"reward_low": torch.tensor(-2.0), "reward_high": torch.tensor(0.5)}
    obs, z = torch.randn(1000, spec.obs_dim, generator=rng), torch.randn(1000, 8, generator=rng)
    modest = agent.values(obs, z)
    assert modest.min() > -2.0 * steps
    assert modest.max() < 0.5 * steps
    for weight in agent.target_critic.values():
        weight.mul_(100.0)
    wild = agent.values(obs, z)
    assert wild.min().item() == pytest.approx(-2.0 * steps)
    assert wild.max().item() == pytest.approx(0.5 * steps)
    # To fall may pay more than any reward: nothing.
    agent.scales["reward_high"] = torch.tensor(-1.0)
    assert agent.values(obs, z).max() == 0.0


CPU = torch.device("cpu")
MODEL_BASED = ("mbml", "maml-mbml")


class Fork(GoalTraining):
    """A training that copies the weights whenever the agent logs, as periodic evaluations do."""

    def __init__(self, agent: Any, budget: int) -> None:
        super().__init__(budget, horizon=20)
        self.agent, self.saved = agent, [dict(agent.state_dict())]

    def log(self, values: Any) -> None:
        self.saved.append({name: x.detach().clone() for name, x in self.agent.state_dict().items()})


def start_obs(weights: dict[str, Tensor]) -> Tensor:
    return next(x for name, x in weights.items() if name.endswith("start_obs"))


@pytest.mark.parametrize("name", MODEL_BASED)
@pytest.mark.parametrize(("obs_dim", "act_dim"), [(4, 1), (20, 6)])  # of cartpole-target and of the cheetah
def test_a_saved_agent_takes_less_than_1_mb(name: str, obs_dim: int, act_dim: int) -> None:
    spec = EnvSpec(obs_dim=obs_dim, act_dim=act_dim, horizon=200, dt=0.02, obs_scale=(1.0,) * obs_dim)
    cls: Any = registry.find("agent", name)
    agent = cls(spec, cls.Config(), 0, CPU)
    mbml = agent.mbml if isinstance(agent, MamlMbml) else agent
    rollout = rollout_of(spec)
    mbml.replay.add(mbml.replay.new_tasks(B), rollout)
    mbml.finish()
    weights = agent.state_dict()
    assert 1000 < len(start_obs(weights)) <= 4096
    assert len(save({key: x.contiguous() for key, x in weights.items()})) < 1e6


@pytest.mark.parametrize("name", MODEL_BASED)
def test_weights_of_every_stage_of_meta_training_can_be_loaded_and_adapted(name: str) -> None:
    agent = make(name, goal_spec(20))
    training = Fork(agent, 4_000)
    meta_train(agent, training)
    assert len(start_obs(training.saved[0])) == 0
    rollout = rollout_of(goal_spec(20))
    for weights in training.saved:
        twin = make(name, goal_spec(20), seed=5)
        twin.load_state_dict(weights)
        assert adapted_actions(twin, rollout, last_of(rollout)).isfinite().all()
    assert all(len(start_obs(weights)) == 4096 for weights in training.saved[1:])


@pytest.mark.parametrize("name", MODEL_BASED)
def test_start_observations_are_replayed_ones_and_taking_them_does_not_change_training(name: str) -> None:
    plain, watched = (make(name, goal_spec(20)) for _ in range(2))
    meta_train(plain, GoalTraining(4_000, horizon=20))
    meta_train(watched, Fork(watched, 4_000))
    for (key, x), y in zip(plain.state_dict().items(), watched.state_dict().values(), strict=True):
        assert torch.equal(x, y), key
    mbml: Any = getattr(plain, "mbml", plain)
    replayed = {tuple(row) for row in mbml.replay.buffer["obs"].flatten(0, 1).tolist()}
    assert {tuple(row) for row in mbml.start_obs.tolist()} <= replayed
    blank = mbml.initial_state(B)["policy"]
    improved = mbml.improved(blank, mbml.model, torch.zeros(B, mbml.config.context_dim), noise())
    assert not torch.equal(improved["w0"], blank["w0"])


@pytest.mark.parametrize("name", MODEL_BASED)
def test_a_task_that_breaks_its_imagination_holds_up_no_other(name: str) -> None:
    agent = make(name, goal_spec(20))
    mbml: Any = getattr(agent, "mbml", agent)
    mbml.start_obs = torch.randn(50, mbml.spec.obs_dim, generator=noise())
    before, z = mbml.initial_state(B)["policy"], torch.zeros(B, mbml.config.context_dim)
    sound = mbml.improved(before, mbml.model, z, noise())
    z[0] = torch.nan
    after = mbml.improved(before, mbml.model, z, noise())
    for key, weights in after.items():
        assert torch.equal(weights[0], before[key][0]), key
        torch.testing.assert_close(weights[1:], sound[key][1:])
        assert not torch.equal(weights[1:], before[key][1:]), key
