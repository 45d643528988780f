"""Gradient steps that neither get stuck at a bound nor break the weights for good."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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

    Nothing moves if the loss depends on none of the optimiser's weights.

    Args:
        optimiser: of all weights that are to move.
        loss: ().
        max_norm: a longer gradient is clipped to this norm.
        clipped: the weights that are clipped together; None for all of the optimiser's.
    """
    weights = _weights(optimiser)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(weights if clipped is None else clipped, max_norm)
    slopes = _slopes(weights)
    if not slopes:
        return
    finite = torch.stack([slope.isfinite().all() for slope in slopes]).all()
    for slope in slopes:
        slope.masked_fill_(~finite, 0.0)
    optimiser.step()


def descend_each(optimiser: torch.optim.Optimizer, losses: Tensor) -> None:
    """One step of B tasks, each down the gradient of its own loss. Where that is not finite, it counts as zero.

    Args:
        optimiser: elementwise, as Adam is, of weights (B, ...); a task's loss depends on its own weights alone.
        losses: (B,).
    """
    optimiser.zero_grad()
    losses.sum().backward()
    slopes = _slopes(_weights(optimiser))
    for slope, finite in zip(slopes, finite_by_task(slopes), strict=True):
        slope.copy_(finite)
    optimiser.step()


def finite_by_task(slopes: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of B tasks, (B, ...) each; zero in the tasks where one of them is not finite."""
    finite = [slope.isfinite().reshape(len(slope), -1).all(1) for slope in slopes]
    whole = torch.stack(finite).all(0)
    return [torch.where(whole.view(-1, *[1] * (slope.ndim - 1)), slope, 0.0) for slope in slopes]


def _weights(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [weight for group in optimiser.param_groups for weight in group["params"]]


def _slopes(weights: Iterable[Tensor]) -> list[Tensor]:
    return [weight.grad for weight in weights if weight.grad is not None]
