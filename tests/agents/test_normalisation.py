"""Observations are normalised by the moments of all that were seen."""

from __future__ import annotations

import pytest
import torch
from mrl_agents.normalisation import LIMIT, RunningNorm
from torch import Tensor


@pytest.fixture
def obs() -> Tensor:
    return 5 + 3 * torch.randn(500, 2, generator=torch.Generator().manual_seed(0))


def test_before_the_first_observation_nothing_changes() -> None:
    far = torch.tensor([[0.5, -300.0]])
    assert torch.equal(RunningNorm(2, torch.device("cpu"))(far), far)


def test_the_mean_is_0_and_the_deviation_1_however_they_came_and_what_is_far_is_clamped(obs: Tensor) -> None:
    norm = RunningNorm(2, torch.device("cpu"))
    for batch in obs.split([1, 0, 99, 400]):
        norm.update(batch)
    std, mean = torch.std_mean(norm(obs), 0, correction=0)
    torch.testing.assert_close(mean, torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(std, torch.ones(2), atol=1e-4, rtol=0)
    assert norm(torch.full((2,), -1e6)).tolist() == [-LIMIT] * 2
