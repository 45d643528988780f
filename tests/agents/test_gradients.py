"""Bounds that let a gradient lead back, and steps that a broken gradient does not spoil."""

from __future__ import annotations

import math

import pytest
import torch
from annotated_types import Interval
from mrl_agents.bounds import MAX_STD, MIN_STD, ActionStd
from mrl_agents.gaussian import init_policy, log_prob, mean_and_std
from mrl_agents.gradients import bounded, descend, descend_each
from torch import Tensor
from torch.func import grad, vmap

LOW, HIGH = math.log(MIN_STD), math.log(MAX_STD)


def test_bounded_clamps() -> None:
    x = torch.linspace(-3, 3, 13)
    assert torch.equal(bounded(x, -1.0, 2.0), x.clamp(-1.0, 2.0))


@pytest.mark.parametrize("x", [-9.0, -1.0, 0.0, 2.0, 9.0])
@pytest.mark.parametrize("slope", [-3.0, 3.0])
def test_only_a_step_that_leads_further_out_is_cut(x: float, slope: float) -> None:
    at = torch.tensor(x, requires_grad=True)
    (slope * bounded(at, -1.0, 2.0)).backward()
    outward = (x <= -1.0 and slope > 0) or (x >= 2.0 and slope < 0)
    assert at.grad is not None
    assert at.grad.item() == (0.0 if outward else slope)


def test_bounded_can_be_mapped_over_tasks_and_differentiated_twice() -> None:
    def cube(x: Tensor) -> Tensor:
        return bounded(x, -2.0, 2.0) ** 3

    x = torch.tensor([-5.0, -1.0, 1.0, 5.0])  # at -5 and 5, a step down the slope of 12 leads to the left
    assert vmap(grad(cube))(x).tolist() == [0.0, 3.0, 3.0, 12.0]
    assert vmap(grad(grad(cube)))(x[1:3]).tolist() == [-6.0, 6.0]


@pytest.mark.parametrize("start", [0.01, 0.05, 0.6, 2.7, 9.0])
@pytest.mark.parametrize("goal", [0.1, 1.5])
def test_the_deviation_of_a_policy_is_learned_from_wherever_it_is(start: float, goal: float) -> None:
    """The actions of most density given their own deviation: descent ends at that deviation."""
    rng = torch.Generator().manual_seed(0)
    weights = init_policy(1, 1, (), 0.6, rng) | {"log_std": torch.full((1, 1), start).log().requires_grad_()}
    obs, action = torch.zeros(500, 1), goal * torch.randn(500, 1, generator=rng)
    adam = torch.optim.Adam([weights["log_std"]], lr=0.05, betas=(0.9, 0.9))
    for _ in range(300):
        descend(adam, -log_prob(weights, obs, action).mean())
    assert mean_and_std(weights, obs)[1].item() == pytest.approx(goal, rel=0.1)


@pytest.mark.parametrize(("wanted", "bound"), [(0.001, MIN_STD), (100.0, MAX_STD)])
def test_a_deviation_that_is_pushed_against_its_bound_stays_near_it(wanted: float, bound: float) -> None:
    """Pushed for long, it would take as long to return if it went on behind the bound."""
    weights = {
        "w0": torch.zeros(1, 1),
        "b0": torch.zeros(1, 1),
        "log_std": torch.zeros(1, 1).requires_grad_(),
    }
    obs, action = torch.zeros(2, 1), torch.tensor([[wanted], [-wanted]])
    adam = torch.optim.Adam([weights["log_std"]], lr=0.05)
    for _ in range(1000):
        descend(adam, -log_prob(weights, obs, action).mean())
    assert mean_and_std(weights, obs)[1].item() == pytest.approx(bound)
    assert weights["log_std"].item() == pytest.approx(math.log(bound), abs=0.5)


def test_settings_and_policy_have_the_same_bounds() -> None:
    (bounds,) = ActionStd.__metadata__
    assert isinstance(bounds, Interval)
    rng = torch.Generator().manual_seed(0)
    for std in (bounds.ge, bounds.le):
        found = mean_and_std(init_policy(1, 1, (), std, rng), torch.zeros(1, 1))[1]
        assert found.item() == pytest.approx(std)
    for std in (0.01, 5.0):
        with pytest.raises(ValueError, match=r"action_std must be from 0\.05 to 2\.7"):
            init_policy(1, 1, (), std, rng)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_not_applied(broken: float) -> None:
    weights = [torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)]
    adam = torch.optim.Adam(weights, lr=0.1)
    descend(adam, broken * weights[0].sum() + weights[1].sum(), max_norm=1.0)
    assert all(torch.equal(weight, torch.ones_like(weight)) for weight in weights)
    descend(adam, weights[0].sum() + weights[1].sum(), max_norm=1.0)
    assert all((weight < 1).all() for weight in weights)


@pytest.mark.parametrize("max_norm", [0.5, math.inf])
def test_a_step_is_that_of_the_clipped_gradient(max_norm: float) -> None:
    free, clipped = torch.zeros(1, requires_grad=True), torch.zeros(2, requires_grad=True)
    sgd = torch.optim.SGD([free, clipped], lr=1.0)
    descend(sgd, 7 * free.sum() + clipped @ torch.tensor([3.0, 4.0]), max_norm, clipped=[clipped])
    assert free.item() == -7
    torch.testing.assert_close(clipped.detach(), -min(1, max_norm / 5) * torch.tensor([3.0, 4.0]))


def test_a_loss_of_other_weights_moves_nothing() -> None:
    mine, other = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    descend(torch.optim.Adam([mine], lr=0.1), other.sum())
    assert torch.equal(mine, torch.ones(2))


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_task_whose_gradient_is_not_finite_stays_and_holds_up_no_other(broken: float) -> None:
    weights = [torch.ones(3, 2, requires_grad=True), torch.ones(3, requires_grad=True)]
    adam = torch.optim.Adam(weights, lr=0.1)
    descend_each(adam, torch.tensor([1.0, broken, 1.0]) * weights[0].sum(1) + weights[1])
    assert [(weight < 1).reshape(3, -1).all(1).tolist() for weight in weights] == [[True, False, True]] * 2
    assert all((weight[1] == 1).all() for weight in weights)
