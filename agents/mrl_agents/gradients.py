"""Gradient steps that neither get stuck at a bound nor break the weights for good."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def bounded(x: Tensor, low: float, high: float) -> Tensor:
    """x clamped to [low, high]. Its gradient is cut only where a step down it would lead further out.

    The gradient of `Tensor.clamp` is zero beyond the bounds, so what once got there would never return.
    """
    clamped: Tensor = _Bounded.apply(x, low, high)  # type: ignore[no-untyped-call]
    return clamped


class _Bounded(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, low: float, high: float) -> Tensor:
        return x.clamp(low, high)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, float], output: Tensor) -> None:
        x, ctx.low, ctx.high = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        outward = ((x <= ctx.low) & (slope > 0)) | ((x >= ctx.high) & (slope < 0))
        return torch.where(outward, 0.0, slope), None, None


def descend(
    optimiser: torch.optim.Optimizer,
    loss: Tensor,
    max_norm: float = math.inf,
    clipped: Iterable[Tensor] | None = None,
) -> None:
    """One step of an optimiser down the gradient of a loss. A gradient that is not finite counts as zero.

    Args:
        optimiser: of all weights that are to move.
        loss: ().
        max_norm: a longer gradient is clipped to this norm.
        clipped: the weights that are clipped together; None for all of the optimiser's.
    """
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(weights if clipped is None else clipped, max_norm)
    slopes = [weight.grad for weight in weights if weight.grad is not None]
    finite = torch.stack([slope.isfinite().all() for slope in slopes]).all()
    for slope in slopes:
        slope.masked_fill_(~finite, 0.0)
    optimiser.step()
