"""The policy that the gradient agents share: a diagonal Gaussian whose mean is a network of the observation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor

from mrl_agents.networks import Weights, init_mlp, mlp

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


def init_policy(obs_dim: int, act_dim: int, hidden: Sequence[int], sigma: float, rng: Generator) -> Weights:
    """A network for the mean, and "log_sigma" (1, A), which does not depend on the observation."""
    weights = init_mlp([obs_dim, *hidden, act_dim], rng, last_gain=0.01)
    return weights | {"log_sigma": torch.full((1, act_dim), math.log(sigma))}


def mean_and_sigma(weights: Mapping[str, Tensor], obs: Tensor) -> tuple[Tensor, Tensor]:
    """obs (..., N, O) -> mean (..., N, A) and sigma (..., 1, A)."""
    return mlp(weights, obs), weights["log_sigma"].clamp(-3.0, 1.0).exp()


def sample(weights: Mapping[str, Tensor], obs: Tensor, explore: bool, rng: Generator) -> Tensor:
    """Actions (..., N, A): drawn if `explore`, else the mean."""
    mean, sigma = mean_and_sigma(weights, obs)
    if not explore:
        return mean
    return mean + sigma * torch.randn(mean.shape, generator=rng, device=mean.device, dtype=mean.dtype)


def log_prob(weights: Mapping[str, Tensor], obs: Tensor, action: Tensor) -> Tensor:
    """Log density of actions, summed over their A components: (..., N)."""
    mean, sigma = mean_and_sigma(weights, obs)
    return (-0.5 * ((action - mean) / sigma) ** 2 - sigma.log() - _LOG_SQRT_2PI).sum(-1)


def kl_divergence(mean_p: Tensor, sigma_p: Tensor, mean_q: Tensor, sigma_q: Tensor) -> Tensor:
    """KL(p || q) of diagonal Gaussians, summed over their A components: (..., N)."""
    ratio = (sigma_p / sigma_q) ** 2
    return 0.5 * (ratio + ((mean_p - mean_q) / sigma_q) ** 2 - 1 - ratio.log()).sum(-1)
