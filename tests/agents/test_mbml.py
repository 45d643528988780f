"""What MBML's critic may claim."""

from __future__ import annotations

import pytest
import torch
from goal_game import goal_spec
from mrl_agents.mbml import Mbml, MbmlConfig


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
