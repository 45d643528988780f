"""Normalisation of observations by their running mean and deviation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

LIMIT = 10.0  # deviations from the mean; what lies beyond is clamped


class RunningNorm:
    """Maps observations to mean 0 and deviation 1, over all observations so far; before the first, it changes nothing.

    The moments are merged batch by batch (Chan, Golub, LeVeque 1979), so the order of batches does not matter.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        """Args: size: O, of an observation."""
        self.count = torch.zeros((), device=device)
        self.mean = torch.zeros(size, device=device)
        self.squares = torch.zeros(size, device=device)  # sum of squared distances from the mean

    def __call__(self, obs: Tensor) -> Tensor:
        """(..., O) -> (..., O)."""
        variance = self.squares / self.count.clamp(min=1)
        normalised = ((obs - self.mean) / (variance + 1e-4).sqrt()).clamp(-LIMIT, LIMIT)
        return torch.where(self.count > 0, normalised, obs)

    def update(self, obs: Tensor) -> None:
        """Counts further observations, (N, O)."""
        if not len(obs):
            return
        total = self.count + len(obs)
        gap = obs.mean(0) - self.mean
        self.squares = (
            self.squares + ((obs - obs.mean(0)) ** 2).sum(0) + gap**2 * self.count * len(obs) / total
        )
        self.mean = self.mean + gap * len(obs) / total
        self.count = total

    def state_dict(self) -> dict[str, Tensor]:
        return {"obs_count": self.count, "obs_mean": self.mean, "obs_squares": self.squares}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        self.count, self.mean, self.squares = (tensors[name].clone() for name in self.state_dict())
