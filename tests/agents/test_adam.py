"""Adam as a function against PyTorch's."""

from __future__ import annotations

import torch
from mrl_agents.adam import adam_step, zero_moments
from mrl_agents.networks import Weights
from torch import Tensor

B, STEPS = 3, 5
RATES = torch.tensor([0.1, 0.01, 0.0], dtype=torch.float64)


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient(step: int) -> Weights:
    """Of changing size and sign."""
    return {"w0": noise(B, 4, 2, seed=step) * 10.0**-step, "b0": noise(B, 1, 2, seed=step + 50)}


def test_every_task_takes_the_steps_of_an_adam_of_its_own() -> None:
    weights = {"w0": noise(B, 4, 2, seed=100), "b0": noise(B, 1, 2, seed=101)}
    theirs = [
        {key: x[b].clone().requires_grad_() for key, x in weights.items()} for b in range(B)
    ]  # one optimiser a task
    optimisers = [
        torch.optim.Adam(of_task.values(), lr=rate)
        for of_task, rate in zip(theirs, RATES.tolist(), strict=True)
    ]
    moments = zero_moments(weights)
    for step in range(STEPS):
        number = torch.full((B,), step + 1)
        weights, moments = adam_step(weights, gradient(step), moments, number, RATES)
        for b, (of_task, optimiser) in enumerate(zip(theirs, optimisers, strict=True)):
            for key, weight in of_task.items():
                weight.grad = gradient(step)[key][b]
            optimiser.step()
            for key, weight in of_task.items():
                torch.testing.assert_close(weights[key][b], weight.detach(), rtol=1e-10, atol=1e-12)


def test_a_step_changes_nothing_that_it_was_given() -> None:
    weights = {"w0": noise(B, 4, 2, seed=100), "b0": noise(B, 1, 2, seed=101)}
    moments = zero_moments(weights)
    adam_step(weights, gradient(0), moments, torch.ones(B), RATES)
    assert torch.equal(weights["w0"], noise(B, 4, 2, seed=100))
    assert not any(x.any() for x in moments.values())
