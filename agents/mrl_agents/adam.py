"""Adam as a function, so that an agent's state can hold its moments.

It works elementwise: weights that lead with B have B independent optimisers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mrl_agents.networks import Weights

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


def zero_moments(weights: Mapping[str, Tensor]) -> Weights:
    """Moments before the first step: for each weight its moments "exp_avg_..." and "exp_avg_sq_..."."""
    return {
        f"{moment}_{key}": torch.zeros_like(x)
        for moment in ("exp_avg", "exp_avg_sq")
        for key, x in weights.items()
    }


def adam_step(
    weights: Weights, gradient: Weights, moments: Weights, number: Tensor, rate: Tensor
) -> tuple[Weights, Weights]:
    """One step down the gradient (Kingma & Ba 2015, algorithm 1).

    Args:
        weights: (B, ...) each.
        gradient: of the loss, as the weights.
        moments: as this function or `zero_moments` gave them.
        number: (B,) of this step, counted from 1.
        rate: (B,) learning rate.

    Returns:
        Weights and moments after the step.
    """
    stepped: Weights = {}
    updated_moments: Weights = {}
    number = number.to(rate.dtype)
    bias_correction1, bias_correction2 = 1 - _BETA1**number, 1 - _BETA2**number
    for key, weight in weights.items():
        exp_avg = torch.lerp(gradient[key], moments[f"exp_avg_{key}"], _BETA1)
        exp_avg_sq = torch.lerp(gradient[key].square(), moments[f"exp_avg_sq_{key}"], _BETA2)
        updated_moments |= {f"exp_avg_{key}": exp_avg, f"exp_avg_sq_{key}": exp_avg_sq}
        step, spread = (
            x.view(-1, *[1] * (weight.ndim - 1)) for x in (rate / bias_correction1, bias_correction2)
        )
        stepped[key] = weight - step * exp_avg / ((exp_avg_sq / spread).sqrt() + _EPSILON)
    return stepped, updated_moments
