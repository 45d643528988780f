"""Imagined returns against numbers worked out by hand, and their analytic gradients against finite differences."""

from __future__ import annotations

import pytest
import torch
from mrl_agents.imagination import imagine, lambda_returns, leaky_clamp, survival_probability
from mrl_agents.networks import Weights, init_mlp, mlp
from mrl_agents.world_model import init_world_model, unit_scales
from torch import Generator, Tensor

from mrl_bench.types import EnvSpec

CPU = torch.device("cpu")
O, A, C, M, N, H = 3, 2, 4, 2, 5, 6  # noqa: E741 - the letter of the observation axis
SPEC = EnvSpec(obs_dim=O, act_dim=A, horizon=10, dt=0.1)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def double(weights: Weights) -> Weights:
    return {key: value.double() for key, value in weights.items()}


def imagined_return(policy: Weights, spread: float = 0.3) -> Tensor:
    """Mean lambda-return of the first imagined steps, in a model whose episodes can end."""
    rng = Generator().manual_seed(0)
    model = double(init_world_model(SPEC, M, hidden_size=16, encoder_hidden_size=8, context_dim=C, rng=rng))
    model |= {key: value + 0.3 * noise(*value.shape, seed=len(key)) for key, value in model.items()}
    critic = double(init_mlp([O, 16, 1], Generator().manual_seed(1)))

    def actor(obs: Tensor, drawn: Tensor) -> Tensor:
        return mlp(policy, obs) + spread * drawn

    start, z = noise(M, N, O, seed=2), noise(M, N, C, seed=3)
    scales = double(unit_scales(SPEC, CPU))
    scales |= {"reward_low": torch.tensor(-9.0).double(), "reward_high": torch.tensor(9.0).double()}
    imagined = imagine(model, scales, actor, start, z, noise(M, H, N, A + O, seed=4))
    assert imagined.obs.shape == (M, H + 1, N, O)
    assert imagined.continues.shape == (M, H, N)
    value = mlp(critic, imagined.obs).squeeze(-1)
    return lambda_returns(imagined.reward, imagined.continues, value, 0.9, 0.8)[:, 0].mean()


def test_analytic_gradients_of_the_imagined_return_are_finite_differences() -> None:
    policy = double(init_mlp([O, 8, A], Generator().manual_seed(5)))
    policy = {key: value.requires_grad_() for key, value in policy.items()}
    gradients = torch.autograd.grad(imagined_return(policy), list(policy.values()))
    width = 1e-6
    for (key, weight), gradient in zip(policy.items(), gradients, strict=True):
        for index in range(weight.numel()):
            step = torch.zeros(weight.numel(), dtype=torch.float64)
            step[index] = width
            ahead, behind = (
                imagined_return(policy | {key: weight.detach() + sign * step.view_as(weight)})
                for sign in (1, -1)
            )
            slope = (ahead - behind) / (2 * width)
            torch.testing.assert_close(gradient.flatten()[index], slope.detach(), rtol=1e-5, atol=1e-8)


def test_lambda_returns_worked_out_by_hand() -> None:
    """Two steps with rewards 1 and 2, values 10, 20, 30, gamma 1/2, and a chance of 1/2 to live through the first.

    G_1 = 2 + 1/2 * 30 = 17;  G_0 = 1 + 1/2 * 1/2 * (3/4 * 20 + 1/4 * 17) = 5.8125 with lambda = 1/4.
    """
    reward, continues = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.5], [1.0]])
    value = torch.tensor([[10.0], [20.0], [30.0]])
    returns = lambda_returns(reward, continues, value, gamma=0.5, return_lambda=0.25)
    assert returns.flatten().tolist() == [5.8125, 17.0]


@pytest.mark.parametrize(("return_lambda", "expected"), [(1.0, 1 + 0.9 * 2 + 0.81 * 5), (0.0, 1 + 0.9 * 4)])
def test_lambda_goes_from_one_step_to_the_whole_horizon(return_lambda: float, expected: float) -> None:
    reward, value = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0], [5.0]])
    returns = lambda_returns(reward, torch.ones(2, 1), value, gamma=0.9, return_lambda=return_lambda)
    assert returns[0].item() == pytest.approx(expected)


def test_an_imagined_step_is_weighted_by_the_probability_of_reaching_it() -> None:
    continues = torch.tensor([[0.5], [0.1], [0.3]], requires_grad=True)
    weight = survival_probability(continues)
    assert weight.flatten().tolist() == pytest.approx([1, 0.5, 0.05])
    assert not weight.requires_grad


def test_beyond_the_bounds_an_action_moves_little_but_still_moves() -> None:
    action = torch.tensor([-3.0, -0.5, 0.5, 2.0], requires_grad=True)
    clamped = leaky_clamp(action)
    assert clamped.tolist() == pytest.approx([-1.1, -0.5, 0.5, 1.05])
    assert torch.autograd.grad(clamped.sum(), action)[0].tolist() == pytest.approx([0.05, 1, 1, 0.05])


def test_what_is_chosen_beyond_the_bounds_is_counted_and_what_is_within_is_not() -> None:
    model = init_world_model(
        SPEC, M, hidden_size=16, encoder_hidden_size=8, context_dim=C, rng=Generator().manual_seed(0)
    )
    chosen = torch.tensor([1.5, -3.0], requires_grad=True)
    start, z, drawn = torch.zeros(M, N, O), torch.zeros(M, N, C), torch.zeros(M, H, N, A + O)
    for scale, excess, slope in ((1.0, 0.5**2 + 2.0**2, [1.0, -4.0]), (0.3, 0.0, [0.0, 0.0])):
        imagined = imagine(
            model,
            unit_scales(SPEC, CPU),
            lambda obs, _, s=scale: (s * chosen).expand(M, N, A),
            start,
            z,
            drawn,
        )
        assert imagined.excess.shape == (M, H, N)
        torch.testing.assert_close(imagined.excess, torch.full((M, H, N), excess))
        gradient = torch.autograd.grad(imagined.excess.mean(), chosen)[0]
        assert gradient.tolist() == pytest.approx(slope)
