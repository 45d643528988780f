"""The policy of the gradient agents: a diagonal Gaussian whose mean is a network of the observation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor

from mrl_agents.bounds import MAX_STD, MIN_STD
from mrl_agents.gradients import bounded
from mrl_agents.networks import Weights, init_mlp, mlp

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


def init_policy(
    obs_dim: int, act_dim: int, hidden_sizes: Sequence[int], std: float, rng: Generator
) -> Weights:
    """A network for the mean, and "log_std" (1, A), which does not depend on the observation.

    Raises:
        ValueError: `std` is not one that the policy can act with.
    """
    if not MIN_STD <= std <= MAX_STD:
        raise ValueError(f"action_std must be from {MIN_STD} to {MAX_STD}, not {std}")
    weights = init_mlp([obs_dim, *hidden_sizes, act_dim], rng, last_gain=0.01)
    return weights | {"log_std": torch.full((1, act_dim), math.log(std))}


def mean_and_std(weights: Mapping[str, Tensor], obs: Tensor) -> tuple[Tensor, Tensor]:
    """obs (..., N, O) -> mean (..., N, A) and std (..., 1, A)."""
    return mlp(weights, obs), std_of(weights["log_std"])


def std_of(log_std: Tensor) -> Tensor:
    """The deviation that a policy acts with, within the bounds of the setting."""
    return bounded(log_std, math.log(MIN_STD), math.log(MAX_STD)).exp()


def sample(weights: Mapping[str, Tensor], obs: Tensor, explore: bool, rng: Generator) -> Tensor:
    """Actions (..., N, A): drawn if `explore`, else the mean."""
    mean, std = mean_and_std(weights, obs)
    if not explore:
        return mean
    return mean + std * torch.randn(mean.shape, generator=rng, device=mean.device, dtype=mean.dtype)


def log_prob(weights: Mapping[str, Tensor], obs: Tensor, action: Tensor) -> Tensor:
    """Log density of actions, summed over their A components: (..., N)."""
    mean, std = mean_and_std(weights, obs)
    return (-0.5 * ((action - mean) / std) ** 2 - std.log() - _LOG_SQRT_2PI).sum(-1)


def kl_divergence(mean_p: Tensor, std_p: Tensor, mean_q: Tensor, std_q: Tensor) -> Tensor:
    """KL(p || q) of diagonal Gaussians, summed over their A components: (..., N)."""
    ratio = (std_p / std_q) ** 2
    return 0.5 * (ratio + ((mean_p - mean_q) / std_q) ** 2 - 1 - ratio.log()).sum(-1)
