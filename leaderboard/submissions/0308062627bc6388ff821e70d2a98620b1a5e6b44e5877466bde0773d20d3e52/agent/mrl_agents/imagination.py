"""Policy improvement inside a world model, by analytic gradients: the return is differentiated through the model.

    G_t = r_t + gamma c_t ((1 - lambda) V(s_{t+1}) + lambda G_{t+1}),    G_H = V(s_H)

c_t is the probability that the episode continues after step t. s_{t+1}, r_t and c_t come from the model and depend on
the action pi(s_t, z), so grad G reaches the policy through all later states (Hafner et al. 2020, "Dream to Control";
Clavera, Fu & Abbeel 2020, "Model-augmented actor-critic").
Functions here work on rows (..., M, N, .) as `mrl_agents.world_model` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mrl_agents.world_model import Scales, advance, outcome

# (obs (..., N, O), standard normal noise (..., N, A)) -> action (..., N, A)
Actor = Callable[[Tensor, Tensor], Tensor]

_LEAK = 0.05  # slope of the clamp beyond the bounds


class ImaginedRollout(NamedTuple):
    """Imagined episodes of H steps. The time axis precedes the rows, so one product serves all steps of a member."""

    obs: Tensor  # (..., M, H + 1, N, O)
    reward: Tensor  # (..., M, H, N)
    continues: Tensor  # (..., M, H, N) probability that the episode continues after a step that it reached
    excess: Tensor  # (..., M, H, N) squared distance of the chosen action from the bounds, summed over its entries


def imagine(
    weights: Mapping[str, Tensor], scales: Scales, actor: Actor, start: Tensor, z: Tensor, noise: Tensor
) -> ImaginedRollout:
    """Rolls a policy out in the model for H steps.

    Args:
        weights: of the world model.
        scales: of the world model.
        actor: chooses the actions.
        start: observations to begin from, (..., M, N, O).
        z: contexts, (..., M, N, C).
        noise: standard normal, (..., M, H, N, A + O), of the actions and of the observations.
    """
    obs, choices, actions = [start], [], []
    of_action, of_obs = noise.split([noise.shape[-1] - start.shape[-1], start.shape[-1]], -1)
    for action_noise, obs_noise in zip(of_action.unbind(-3), of_obs.unbind(-3), strict=True):
        choices.append(actor(obs[-1], action_noise))
        actions.append(leaky_clamp(choices[-1]))
        obs.append(advance(weights, scales, obs[-1], actions[-1], z, obs_noise))
    before, chosen, action, after = (torch.stack(x, -3) for x in (obs[:-1], choices, actions, obs[1:]))
    excess = (chosen - chosen.detach().clamp(-1.0, 1.0)).square().sum(-1)
    context = z.unsqueeze(-3).expand(*action.shape[:-1], -1)
    steps = (x.flatten(-3, -2) for x in (before, action, after, context))  # (..., M, H * N, .)
    reward, continues = (x.unflatten(-1, action.shape[-3:-1]) for x in outcome(weights, scales, *steps))
    return ImaginedRollout(torch.cat([before, after[..., -1:, :, :]], -3), reward, continues, excess)


def leaky_clamp(action: Tensor) -> Tensor:
    """Clamps to [-1, 1], with a small slope beyond the bounds, so that a gradient leads back."""
    within = action.clamp(-1.0, 1.0)
    return within + _LEAK * (action - within)


def lambda_returns(
    reward: Tensor, continues: Tensor, value: Tensor, gamma: float, return_lambda: float
) -> Tensor:
    """G_t of the module's equation, for each imagined step.

    Args:
        reward: (..., H, N).
        continues: (..., H, N) probability that the episode continues after a step.
        value: (..., H + 1, N) of the observations before each step, and of the last one.
        gamma: discount factor of one step.
        return_lambda: 0 gives one-step returns, 1 the discounted sum to the horizon.

    Returns:
        (..., H, N).
    """
    ahead, returns = value[..., -1, :], []
    for t in reversed(range(reward.shape[-2])):
        following = torch.lerp(value[..., t + 1, :], ahead, return_lambda)
        ahead = reward[..., t, :] + gamma * continues[..., t, :] * following
        returns.append(ahead)
    return torch.stack(returns[::-1], -2)


def survival_probability(continues: Tensor) -> Tensor:
    """Probability that an imagined episode has not ended before each step, (..., H, N), without gradient."""
    continues = continues.detach()
    return torch.cat([torch.ones_like(continues[..., :1, :]), continues[..., :-1, :].cumprod(-2)], -2)
