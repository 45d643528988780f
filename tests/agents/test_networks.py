"""Networks as named tensors, and the Gaussian policy over them."""

from __future__ import annotations

import math

import pytest
import torch
from mrl_agents.bounds import MAX_STD, MIN_STD
from mrl_agents.gaussian import init_policy, kl_divergence, log_prob, mean_and_std, sample
from mrl_agents.networks import Weights, expand, init_mlp, mlp, obs_scaler
from torch import Tensor
from torch.distributions import Independent, Normal
from torch.distributions import kl_divergence as torch_kl

from mrl_bench.types import EnvSpec

B, N, O, A = 3, 50, 4, 2  # noqa: E741 - the letter of the observation axis


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=rng(seed))


def policies(tasks: int) -> Weights:
    """A policy for each task, all different."""
    each = [init_policy(O, A, (8, 8), 0.5, rng(seed)) for seed in range(tasks)]
    return {
        key: torch.stack(
            [weights[key] + 0.1 * noise(*weights[key].shape, seed=i) for i, weights in enumerate(each)]
        )
        for key in each[0]
    }


def of_task(weights: Weights, b: int) -> Weights:
    return {key: value[b] for key, value in weights.items()}


def test_a_network_is_layers_of_tanh() -> None:
    weights, x = init_mlp([O, 8, 8, A], rng()), noise(N, O)
    module = torch.nn.Sequential(
        *(
            torch.nn.Linear(O, 8),
            torch.nn.Tanh(),
            torch.nn.Linear(8, 8),
            torch.nn.Tanh(),
            torch.nn.Linear(8, A),
        )
    )
    for layer, linear in enumerate(module[::2]):
        linear.weight.data = weights[f"w{layer}"].T
        linear.bias.data = weights[f"b{layer}"][0]
    torch.testing.assert_close(mlp(weights, x), module(x))


def test_b_networks_are_each_their_own() -> None:
    weights, obs = policies(B), noise(B, N, O)
    together = mlp(weights, obs)
    for b in range(B):
        torch.testing.assert_close(together[b], mlp(of_task(weights, b), obs[b]))


def test_an_expanded_network_is_the_same_for_every_task_and_takes_no_memory() -> None:
    weights, obs = init_mlp([O, 8, A], rng()), noise(B, N, O)
    expanded = expand(weights, B)
    torch.testing.assert_close(mlp(expanded, obs), mlp(weights, obs))
    assert all(expanded[key].data_ptr() == weights[key].data_ptr() for key in weights)


def test_networks_with_names_live_side_by_side() -> None:
    actor, critic = init_mlp([O, 8, A], rng()), init_mlp([O, 8, 1], rng(), name="critic_")
    both, x = actor | critic, noise(N, O)
    assert torch.equal(mlp(both, x), mlp(actor, x))
    assert mlp(both, x, name="critic_").shape == (N, 1)


def test_matrices_begin_orthogonal_and_biases_at_zero() -> None:
    weights = init_mlp([8, 8, 8], rng(), last_gain=0.01)
    for name, gain in (("w0", math.sqrt(2)), ("w1", 0.01)):
        torch.testing.assert_close(weights[name].T @ weights[name], gain**2 * torch.eye(8))
    assert not weights["b0"].any()
    assert not weights["b1"].any()


def test_a_seed_gives_the_same_network_again() -> None:
    first, again, other = (init_mlp([O, 8, A], rng(seed)) for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["w0"], other["w0"])


def test_observations_are_divided_by_their_scale() -> None:
    spec = EnvSpec(obs_dim=2, act_dim=1, horizon=1, dt=0.1, obs_scale=(2.0, 0.5))
    assert obs_scaler(spec, torch.device("cpu"))(torch.tensor([[4.0, 1.0]])).tolist() == [[2.0, 2.0]]


def test_the_density_is_that_of_independent_normals() -> None:
    weights, obs, action = policies(B), noise(B, N, O), noise(B, N, A, seed=2)
    mean, std = mean_and_std(weights, obs)
    torch.testing.assert_close(
        log_prob(weights, obs, action), Independent(Normal(mean, std), 1).log_prob(action)
    )


def test_the_divergence_is_that_of_independent_normals() -> None:
    (mean_p, std_p), (mean_q, std_q) = (mean_and_std(of_task(policies(2), b), noise(N, O)) for b in range(2))
    expected = torch_kl(Normal(mean_p, std_p), Normal(mean_q, std_q)).sum(-1)
    torch.testing.assert_close(kl_divergence(mean_p, std_p, mean_q, std_q), expected)
    assert not kl_divergence(mean_p, std_p, mean_p, std_p).any()


def test_exploring_draws_from_the_policy_and_not_exploring_gives_its_mean() -> None:
    weights = init_policy(O, A, (8,), 0.5, rng())
    obs = noise(1, O).expand(20_000, O)
    mean, std = mean_and_std(weights, obs)
    assert torch.equal(sample(weights, obs, False, rng()), mean)
    drawn = sample(weights, obs, True, rng())
    torch.testing.assert_close(drawn.mean(0), mean[0], rtol=0, atol=0.02)  # 5 deviations of the mean
    torch.testing.assert_close(drawn.std(0), std[0], rtol=0, atol=0.02)
    assert torch.equal(sample(weights, obs, True, rng()), drawn)


@pytest.mark.parametrize(("log_std", "std"), [(-9.0, MIN_STD), (0.0, 1.0), (9.0, MAX_STD)])
def test_the_deviation_stays_between_bounds(log_std: float, std: float) -> None:
    weights = init_policy(O, A, (8,), 1.0, rng()) | {"log_std": torch.full((1, A), log_std)}
    torch.testing.assert_close(mean_and_std(weights, noise(N, O))[1], torch.full((1, A), std))
