"""Adam as a function, so that what it remembers can live in an agent's state.

It works elementwise: weights that lead with B are B optimisers, and none feels another.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mrl_agents.networks import Weights

_MEAN_DECAY, _SQUARE_DECAY, _EPSILON = 0.9, 0.999, 1e-8


def no_moments(weights: Mapping[str, Tensor]) -> Weights:
    """What Adam remembers before its first step: for each weight "mean_..." and "square_..." of its gradients."""
    return {
        f"{moment}_{key}": torch.zeros_like(x) for moment in ("mean", "square") for key, x in weights.items()
    }


def adam_step(
    weights: Weights, gradient: Weights, moments: Weights, number: Tensor, rate: Tensor
) -> tuple[Weights, Weights]:
    """One step down the gradient (Kingma & Ba 2015, algorithm 1).

    Args:
        weights: (B, ...) each.
        gradient: of the loss, as the weights.
        moments: as this function or `no_moments` gave them.
        number: (B,) of this step, counted from 1.
        rate: (B,) learning rate.

    Returns:
        Weights and moments after the step.
    """
    stepped: Weights = {}
    remembered: Weights = {}
    number = number.to(rate.dtype)
    mean_share, square_share = 1 - _MEAN_DECAY**number, 1 - _SQUARE_DECAY**number
    for key, weight in weights.items():
        mean = torch.lerp(gradient[key], moments[f"mean_{key}"], _MEAN_DECAY)
        square = torch.lerp(gradient[key].square(), moments[f"square_{key}"], _SQUARE_DECAY)
        remembered |= {f"mean_{key}": mean, f"square_{key}": square}
        step, spread = (x.view(-1, *[1] * (weight.ndim - 1)) for x in (rate / mean_share, square_share))
        stepped[key] = weight - step * mean / ((square / spread).sqrt() + _EPSILON)
    return stepped, remembered
