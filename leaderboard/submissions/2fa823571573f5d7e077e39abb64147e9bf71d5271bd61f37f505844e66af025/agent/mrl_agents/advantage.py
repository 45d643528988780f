"""Returns, baselines, advantages and surrogates of the policy-gradient agents.

All functions take padded episodes (..., T) with a mask, and ignore what lies after an episode's end.
"""

from __future__ import annotations

import torch
from torch import Tensor


def discounted_sum(x: Tensor, factor: float) -> Tensor:
    """y_t = sum over i >= t of factor^(i - t) x_i, (..., T) -> (..., T), as one product with a triangular matrix.

    No reset is needed at an episode's end: entries behind it are zero.
    """
    steps = torch.arange(x.shape[-1], device=x.device)
    ahead = steps[:, None] - steps[None, :]  # (T, T) [i, t]: how far i lies ahead of t
    weight = torch.where(ahead >= 0, factor ** ahead.clamp(min=0).to(x.dtype), 0.0)
    return x @ weight


def gae(
    reward: Tensor, value: Tensor, terminated: Tensor, mask: Tensor, gamma: float, gae_lambda: float
) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016), zero behind an episode's end.

    Args:
        reward: (..., T).
        value: (..., T + 1) of the observations before each step, and of the last one.
        terminated: (..., T) bool: nothing follows this step. An episode that was cut bootstraps from `value`.
        mask: (..., T).
        gamma: discount of one step.
        gae_lambda: lambda of the estimate; 1 gives the return minus the baseline.
    """
    following = value[..., 1:] * (~terminated).to(value.dtype)
    delta = (reward + gamma * following - value[..., :-1]) * mask
    return discounted_sum(delta, gamma * gae_lambda) * mask


def linear_baseline(obs: Tensor, reward: Tensor, mask: Tensor, gamma: float, ridge: float = 1e-3) -> Tensor:
    """Fits each task's discounted return-to-go by least squares (Duan et al. 2016, feature baseline).

    Features of a step are o, o^2, t, t^2, t^3 and 1, with o clamped to [-10, 10] and t in hundreds of steps. Each
    task has a separate fit: a shared one would leak information between tasks.

    Args:
        obs: (B, E, T + 1, O).
        reward: (B, E, T).
        mask: (B, E, T).
        gamma: discount of one step.
        ridge: penalty per feature, relative to the number of samples.

    Returns:
        Values (B, E, T + 1); the last one, behind the horizon, is zero, because the return it predicts ends there.
    """
    tasks, _, steps = mask.shape
    obs = obs[:, :, :-1].clamp(-10, 10)
    clock = torch.arange(steps, device=obs.device, dtype=obs.dtype).expand(mask.shape)[..., None] / 100
    features = torch.cat([obs, obs**2, clock, clock**2, clock**3, torch.ones_like(clock)], -1)  # (B, E, T, F)
    inputs = (features * mask[..., None]).reshape(tasks, -1, features.shape[-1])
    targets = discounted_sum(reward * mask, gamma).mul(mask).reshape(tasks, -1, 1)
    samples = mask.sum((1, 2)).clamp(min=1)  # a task that failed in its first step has none
    penalty = ridge * samples[:, None, None] * torch.eye(inputs.shape[-1], device=obs.device)
    weights = torch.linalg.solve(inputs.mT @ inputs + penalty, inputs.mT @ targets)  # (B, F, 1)
    values = (features @ weights[:, None]).squeeze(-1) * mask
    return torch.cat([values, torch.zeros_like(values[..., :1])], -1)


def nothing_valid(mask: Tensor) -> bool:
    """Whether every episode failed in its first step. To be asked once per collection, for it waits for the device."""
    return not mask.any()


def masked_mean(x: Tensor, mask: Tensor, dims: tuple[int, ...] | None = None) -> Tensor:
    """Mean of x where mask is 1, over all axes or over `dims`."""
    if dims is None:
        return (x * mask).sum() / mask.sum().clamp(min=1)
    return (x * mask).sum(dims) / mask.sum(dims).clamp(min=1)


def standardise(advantage: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over the episodes of each task: (B, E, T) -> (B, E, T)."""
    mean = masked_mean(advantage, mask, (1, 2))[:, None, None]
    var = masked_mean((advantage - mean) ** 2, mask, (1, 2))[:, None, None]
    return (advantage - mean) / (var.sqrt() + 1e-6) * mask


def clipped_surrogate(log_ratio: Tensor, advantage: Tensor, clip_coef: float) -> Tensor:
    """PPO's pessimistic objective (Schulman et al. 2017, eq. 7), for each sample, to be maximised."""
    ratio = log_ratio.exp()
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip_coef, 1 + clip_coef) * advantage)
