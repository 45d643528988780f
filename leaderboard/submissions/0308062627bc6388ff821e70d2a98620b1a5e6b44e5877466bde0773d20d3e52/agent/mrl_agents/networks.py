"""Networks as named tensors, so that one function serves a single network and a network for each task.

Weights of a single network have shapes (in, out) and (1, out); weights of B networks lead with B. Matrix products
broadcast over that axis, so `mlp(weights, x)` takes x (..., N, in) with either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor

from mrl_bench.types import EnvSpec

Weights = dict[str, Tensor]


def init_mlp(sizes: Sequence[int], rng: Generator, last_gain: float = 1.0, name: str = "") -> Weights:
    """Orthogonal matrices with gain sqrt(2), `last_gain` in the last layer, and zero biases.

    Args:
        sizes: widths from the input to the output.
        rng: on the CPU, so that a seed gives the same network on every device.
        last_gain: of the last layer; small for a policy, whose first actions should depend little on the input.
        name: prefix of the names "w0", "b0", "w1", ...
    """
    weights = {}
    for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        gain = last_gain if layer == len(sizes) - 2 else math.sqrt(2)
        matrix = torch.empty(fan_in, fan_out)
        weights[f"{name}w{layer}"] = torch.nn.init.orthogonal_(matrix, gain, generator=rng)
        weights[f"{name}b{layer}"] = torch.zeros(1, fan_out)
    return weights


def mlp(
    weights: Mapping[str, Tensor],
    x: Tensor,
    name: str = "",
    activation: Callable[[Tensor], Tensor] = torch.tanh,
) -> Tensor:
    """(..., N, in) -> (..., N, out)."""
    layer = 0
    while f"{name}w{layer}" in weights:
        if layer:
            x = activation(x)
        x = x @ weights[f"{name}w{layer}"] + weights[f"{name}b{layer}"]
        layer += 1
    return x


def expand(weights: Mapping[str, Tensor], tasks: int) -> Weights:
    """The same network for each of B tasks, without copying: (...) -> (B, ...)."""
    return {key: value.expand(tasks, *value.shape) for key, value in weights.items()}


def frozen(weights: Mapping[str, Tensor]) -> Weights:
    """The same weights, without gradient."""
    return {key: value.detach() for key, value in weights.items()}


def obs_scaler(spec: EnvSpec, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Divides observations (..., O) by the magnitudes that the environment declares."""
    factor = 1.0 / torch.tensor(spec.obs_scale, device=device)
    return lambda obs: obs * factor
