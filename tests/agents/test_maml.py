"""MAML: its gradients against brute force, its two worked examples, and that it learns what can be learned.

The examples are those of docs/maml.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from bench_kit import make_training
from goal_game import GoalGame, GoalTraining, goal_spec
from mrl_agents import maml
from mrl_agents.gaussian import kl_divergence, log_prob, mean_and_std
from mrl_agents.maml import Batch, Maml, MamlConfig, conjugate_gradient, over_tasks
from mrl_agents.networks import Weights
from torch import Tensor
from torch.distributions import Normal

from mrl_bench.protocol.adaptation import evaluate
from mrl_bench.protocol.rollout import collect
from mrl_bench.protocol.training import meta_train
from mrl_bench.scenario import find_scenario
from mrl_bench.types import EnvSpec

CPU = torch.device("cpu")
B, N, O, A = 3, 8, 3, 2  # noqa: E741 - the letter of the observation axis
LOOP, VMAP = 0, math.inf  # values of LOOP_FROM_SAMPLES


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(**settings: Any) -> Maml:
    """A small agent in float64, away from the special point that an initialisation is."""
    spec = EnvSpec(obs_dim=O, act_dim=A, horizon=N, dt=0.1)
    agent = Maml(spec, MamlConfig(hidden_sizes=(5,), max_grad_norm=1e9, epochs=1, **settings), 0, CPU)
    for seed, (key, weight) in enumerate(agent.theta.items()):
        moved = weight.detach() + 0.3 * noise(*weight.shape, seed=seed)
        agent.theta[key] = moved.requires_grad_(weight.requires_grad)
        rate = agent.log_lr[key]
        slower = rate.detach() + 0.3 * noise(*rate.shape, seed=seed + 50)
        agent.log_lr[key] = slower.requires_grad_(rate.requires_grad)
    return agent


def data(agent: Maml, inner_steps: int, moved: float = 0.2) -> tuple[list[Batch], Batch]:
    """Made-up data of B tasks before and after inner steps.

    Args:
        moved: how far log densities are from those of the policies that acted, as they are after the first of
            several outer steps on the same data; by default ratios lie on both sides of the clip.
    """

    def batch(state: Weights, seed: int) -> Batch:
        obs, action = noise(B, N, O, seed=seed), noise(B, N, A, seed=seed + 1)
        return {
            "obs": obs,
            "action": action,
            "old": log_prob(state, obs, action) + moved * noise(B, N, seed=seed + 2),
            "advantage": noise(B, N, seed=seed + 3),
            "mask": (noise(B, N, seed=seed + 4) > -1).double(),
        }

    state, before = agent.initial_state(B), []
    for step in range(inner_steps):
        before.append(batch(state, 100 + 10 * step))
        state = agent._adapt(state, before[-1])
    return before, batch(state, 200)


def meta_gradient(agent: Maml, before: list[Batch], after: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradient of the code that trains, by an optimiser that takes no step."""
    parameters = {f"theta.{key}": weight for key, weight in agent.theta.items()}
    parameters |= {f"log_lr.{key}": rate for key, rate in agent.log_lr.items() if rate.requires_grad}
    still = torch.optim.SGD(parameters.values(), lr=0.0)
    loss = agent._outer_ppo(before, after, still)["losses/policy_loss"]
    return loss, {name: parameter.grad for name, parameter in parameters.items()}


def unrolled(
    theta: Weights,
    log_lr: Weights,
    before: list[Batch],
    after: Batch,
    first_order: bool = False,
) -> Tensor:
    """The outer loss of MAML by nothing but autograd, in a loop over tasks and steps."""

    def density(weights: Weights, batch: Batch) -> Tensor:
        hidden = torch.tanh(batch["obs"] @ weights["w0"] + weights["b0"])
        mean = hidden @ weights["w1"] + weights["b1"]
        return Normal(mean, weights["log_std"].exp().expand_as(mean)).log_prob(batch["action"]).sum(-1)

    total = torch.zeros((), dtype=torch.float64)
    for b in range(B):
        weights = dict(theta)
        for batches in before:
            batch = {key: value[b] for key, value in batches.items()}
            ratio = (density(weights, batch) - batch["old"]).exp()
            loss = -(ratio * batch["advantage"] * batch["mask"]).sum() / batch["mask"].sum()
            gradient = torch.autograd.grad(loss, list(weights.values()), create_graph=not first_order)
            weights = {
                key: weight - log_lr[key].exp() * slope
                for (key, weight), slope in zip(weights.items(), gradient, strict=True)
            }
        batch = {key: value[b] for key, value in after.items()}
        ratio = (density(weights, batch) - batch["old"]).exp()
        gain = torch.minimum(ratio * batch["advantage"], ratio.clamp(0.8, 1.2) * batch["advantage"])
        total = total - (gain * batch["mask"]).sum()
    return total / after["mask"].sum()


@pytest.mark.parametrize("inner_steps", [1, 2])
@pytest.mark.parametrize("first_order", [False, True])
def test_the_meta_gradient_is_that_of_brute_force(inner_steps: int, first_order: bool) -> None:
    agent = make(learn_inner_lr=True, first_order=first_order)
    before, after = data(agent, inner_steps)
    loss, gradient = meta_gradient(agent, before, after)
    expected = unrolled(agent.theta, agent.log_lr, before, after, first_order)
    torch.testing.assert_close(loss, expected.detach(), rtol=0, atol=1e-12)
    meta = {"theta": agent.theta, "log_lr": agent.log_lr}
    for name, weights in meta.items():
        slopes = torch.autograd.grad(expected, list(weights.values()), retain_graph=True)
        for key, slope in zip(weights, slopes, strict=True):
            assert slope.abs().max() > 1e-4, "no gradient reaches this weight, so the test says nothing"
            torch.testing.assert_close(gradient[f"{name}.{key}"], slope, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("inner_steps", [1, 2])
def test_the_meta_gradient_is_that_of_finite_differences(inner_steps: int) -> None:
    """The policies that gathered the data stay what they were when theta moves, and so do their log densities."""
    agent = make()
    before, after = data(agent, inner_steps)
    _, gradient = meta_gradient(agent, before, after)
    size = 1e-6
    for key, weight in agent.theta.items():
        for where in {0, weight.numel() - 1}:
            losses = []
            for sign in (1, -1):
                moved = weight.detach().clone()
                moved.view(-1)[where] += sign * size
                theta = agent.theta | {key: moved.requires_grad_()}
                losses.append(unrolled(theta, agent.log_lr, before, after).item())
            slope = (losses[0] - losses[1]) / (2 * size)
            assert gradient[f"theta.{key}"].view(-1)[where].item() == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_the_first_order_gradient_is_another_one() -> None:
    flat = {}
    for first_order in (False, True):
        agent = make(first_order=first_order)
        _, gradient = meta_gradient(agent, *data(agent, 1))
        flat[first_order] = torch.cat([slope.flatten() for slope in gradient.values()])
    assert (flat[True] - flat[False]).norm() > 0.05 * flat[False].norm()


@pytest.mark.parametrize("inner_steps", [1, 2])
def test_a_loop_over_tasks_and_vmap_give_the_same_numbers(
    inner_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = make(learn_inner_lr=True)
    before, after = data(agent, inner_steps)
    results = []
    for threshold in (LOOP, VMAP):
        monkeypatch.setitem(maml.LOOP_FROM_SAMPLES, "cpu", threshold)
        loss, gradient = meta_gradient(agent, before, after)
        gradient = {key: slope.clone() for key, slope in gradient.items()}
        results.append((loss, gradient, agent._adapt(agent.initial_state(B), before[0])))
    torch.testing.assert_close(*results, rtol=0, atol=1e-12)


def test_over_tasks_loops_from_the_threshold_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(maml.LOOP_FROM_SAMPLES, "cpu", 5)

    def is_looped(samples: int) -> bool:
        calls = []

        def function(batch: Batch) -> Batch:
            calls.append(batch)
            return {"sum": batch["x"].sum(0)}

        result = over_tasks(function, {"x": torch.ones(B, samples, 2)})
        assert torch.equal(result["sum"], torch.full((B, 2), float(samples)))
        return len(calls) == B

    assert [is_looped(samples) for samples in (4, 5, 6)] == [False, True, True]


# -- the outer step by TRPO -------------------------------------------------------------------------------------


def test_conjugate_gradients_solve_a_positive_definite_system() -> None:
    root, solution = noise(6, 6), noise(6, seed=1)
    matrix = root @ root.T + torch.eye(6)
    found = conjugate_gradient(lambda vector: matrix @ vector, matrix @ solution, steps=6)
    torch.testing.assert_close(found, solution, rtol=0, atol=1e-8)
    assert not conjugate_gradient(lambda vector: matrix @ vector, 0 * solution, steps=6).any()


@pytest.mark.parametrize(
    "settings", [{}, {"learn_inner_lr": True}, {"learn_action_std": False}, {"max_kl": 1.0}]
)
def test_a_trpo_step_improves_the_surrogate_and_stays_close(settings: dict[str, bool]) -> None:
    agent = make(outer_update="trpo", **settings)
    before, after = data(agent, 1, moved=0.0)
    state = agent._adapt(agent.initial_state(B), before[0])

    def valid_mean(x: Tensor) -> float:
        return ((x * after["mask"]).sum() / after["mask"].sum()).item()

    logged = agent._outer_trpo(before, after, state)
    moved = agent._adapt(agent.initial_state(B), before[0])
    ratio = (log_prob(moved, after["obs"], after["action"]) - after["old"]).exp()
    assert valid_mean(ratio * after["advantage"]) > valid_mean(after["advantage"]) + 0.01
    kl = kl_divergence(*mean_and_std(state, after["obs"]), *mean_and_std(moved, after["obs"]))
    assert 0.1 * agent.config.max_kl < valid_mean(kl) < 1.5 * agent.config.max_kl
    assert logged["losses/approx_kl"].item() == pytest.approx(valid_mean(kl))


def test_a_trpo_step_without_a_gain_is_not_taken() -> None:
    agent = make(outer_update="trpo")
    before, after = data(agent, 1)
    after["advantage"] = torch.zeros_like(after["advantage"])
    weights = {key: tensor.clone() for key, tensor in agent.state_dict().items()}
    logged = agent._outer_trpo(before, after, agent._adapt(agent.initial_state(B), before[0]))
    assert logged["losses/approx_kl"] == 0
    torch.testing.assert_close(agent.state_dict(), weights, rtol=0, atol=0)


# -- what is adapted, and what is learned -------------------------------------------------------------------------


def trained(budget: int = 2_000, **settings: Any) -> Maml:
    agent = Maml(goal_spec(1), MamlConfig(hidden_sizes=(16,), **settings), 0, CPU)
    meta_train(agent, GoalTraining(budget))
    return agent


@pytest.mark.parametrize("outer", ["ppo", "trpo"])
def test_a_deviation_that_is_not_learned_stays(outer: str) -> None:
    agent = trained(outer_update=outer, learn_action_std=False, learn_inner_lr=True, action_std=0.6)
    adapted, _ = data(make(learn_action_std=False), 1)
    state = agent._adapt(agent.initial_state(B), {key: value.float() for key, value in adapted[0].items()})
    for log_std in (agent.theta["log_std"], *state["log_std"]):
        torch.testing.assert_close(log_std.detach().exp(), torch.full((1, A), 0.6))


@pytest.mark.parametrize("outer", ["ppo", "trpo"])
def test_inner_rates_move_only_if_they_are_learned(outer: str) -> None:
    learned = trained(outer_update=outer, learn_inner_lr=True, inner_lr=0.05)
    assert all(not torch.allclose(rate.exp(), torch.tensor(0.05)) for rate in learned.log_lr.values())
    fixed = trained(outer_update=outer, learn_inner_lr=False, inner_lr=0.05)
    assert all(torch.allclose(rate.exp(), torch.tensor(0.05)) for rate in fixed.log_lr.values())


@pytest.mark.parametrize("outer", ["ppo", "trpo"])
def test_one_adaptation_finds_the_goal(outer: str) -> None:
    """The best first action is near (0, 0), the best one after adaptation is the goal at (0.5, 0) or (-0.5, 0)."""
    agent = trained(budget=20_000, outer_update=outer, outer_lr=5e-3)
    game, spec, state = GoalGame(10, 10), goal_spec(1), agent.initial_state(10)

    def play(explore: bool) -> Any:
        return collect(game, spec, agent, state, seed=0, noise_seed=0, explore=explore)[0]

    first = play(explore=False)
    state = agent.adapt(state, (), play(explore=True), torch.Generator())
    second = play(explore=False)
    assert first.returns().mean() == pytest.approx(-0.25, abs=0.1)
    assert second.returns().mean() > -0.12
    assert (second.action[:, 0, 0, 0].sign() == game.goal[:, 0, 0].sign()).all()


# -- the worked examples of docs/maml.md ------------------------------------------------------------------------

LINEAR_TASKS = ((1.0, 2.0), (2.0, 3.0))  # (x_i, y_i) of the model y = theta x


def linear_gradients(theta: float, rate: float, tasks: Sequence[tuple[float, float]]) -> dict[str, Tensor]:
    """Losses before and after an inner step, and their gradients, each for every task."""
    weight = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    found: dict[str, list[float]] = {}
    for x, y in tasks:
        before = 0.5 * (y - weight * x) ** 2
        (slope,) = torch.autograd.grad(before, weight, create_graph=True)
        adapted = weight - rate * slope
        after = 0.5 * (y - adapted * x) ** 2
        numbers = {
            "before": before,
            "slope": slope,
            "adapted": adapted,
            "after": after,
            "maml": torch.autograd.grad(after, weight, retain_graph=True)[0],
            "first_order": torch.autograd.grad(after, adapted)[0],
        }
        for name, number in numbers.items():
            found.setdefault(name, []).append(number.item())
    return {name: torch.tensor(numbers, dtype=torch.float64) for name, numbers in found.items()}


def test_the_linear_example() -> None:
    numbers = linear_gradients(theta=0.5, rate=0.1, tasks=LINEAR_TASKS)
    expected = {
        "before": [1.125, 2.0],
        "slope": [-1.5, -4.0],
        "adapted": [0.65, 0.9],
        "after": [0.91125, 0.72],
        "maml": [-1.215, -1.44],
        "first_order": [-1.35, -2.4],
    }
    for name, values in expected.items():
        assert numbers[name].tolist() == pytest.approx(values), name
    for name, total in {"slope": -5.5, "maml": -2.655, "first_order": -3.75}.items():
        assert numbers[name].sum().item() == pytest.approx(total), name


@pytest.mark.parametrize(
    ("theta", "settled", "before", "after"),
    [(1.6, "slope", 0.1, 0.072), (1.68, "maml", 0.116, 0.0648), (18 / 11, "first_order", 0.1033, 0.0669)],
)
def test_where_the_linear_example_settles(theta: float, settled: str, before: float, after: float) -> None:
    numbers = linear_gradients(theta, rate=0.1, tasks=LINEAR_TASKS)
    assert numbers[settled].sum().item() == pytest.approx(0.0, abs=1e-12)
    assert numbers["before"].sum().item() == pytest.approx(before, abs=5e-5)
    assert numbers["after"].sum().item() == pytest.approx(after, abs=5e-5)


def test_first_order_maml_can_go_uphill() -> None:
    numbers = linear_gradients(theta=0.5, rate=0.3, tasks=LINEAR_TASKS[1:])
    assert numbers["slope"].item() == pytest.approx(-4.0)
    assert numbers["maml"].item() == pytest.approx(-0.16)
    assert numbers["first_order"].item() == pytest.approx(0.8)


@pytest.mark.parametrize(("baseline", "of_log_density"), [(0.0, 1.5), (-1.25, 1.0)])
def test_the_gaussian_example(baseline: float, of_log_density: float) -> None:
    """One action from N(theta, sigma^2) pays -(a - 1)^2; expectations are exact, by Gauss-Hermite quadrature."""
    theta, sigma, rate, goal = 0.0, 0.5, 0.1, 1.0
    settings = MamlConfig(hidden_sizes=(), action_std=sigma, inner_lr=rate)
    agent = Maml(EnvSpec(obs_dim=1, act_dim=1, horizon=1, dt=0.1), settings, 0, CPU)
    weights = {key: weight.detach().double() for key, weight in agent.theta.items()}
    mean = weights["b0"] = torch.full((1, 1), theta, dtype=torch.float64, requires_grad=True)
    log_lr = {key: rates.double() for key, rates in agent.log_lr.items()}

    node, chance = (torch.tensor(x) for x in np.polynomial.hermite_e.hermegauss(20))
    action = theta + sigma * node
    reward = -((action - goal) ** 2)
    chance = chance / math.sqrt(2 * math.pi)
    assert (chance * reward).sum().item() == pytest.approx(-1.25)
    batch = {
        "obs": torch.zeros(len(node), 1, dtype=torch.float64),
        "action": action[:, None],
        "old": log_prob(weights, torch.zeros(len(node), 1).double(), action[:, None]).detach(),
        "advantage": len(node) * chance * (reward - baseline),  # so that a mean over nodes is an expectation
        "mask": torch.ones_like(node),
    }

    def step_and_slope(adapted: Tensor) -> tuple[float, float]:
        return adapted.item(), torch.autograd.grad(adapted, mean)[0].item()

    def by_log_density(weights: Weights) -> Tensor:
        return -(log_prob(weights, batch["obs"], batch["action"]) * batch["advantage"]).mean()

    (slope,) = torch.autograd.grad(by_log_density(weights), mean, create_graph=True)
    assert step_and_slope(agent.adapted(weights, log_lr, [batch])["b0"]) == pytest.approx((0.2, 0.8))
    assert step_and_slope(mean - rate * slope) == pytest.approx((0.2, of_log_density))


# -- at full size -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_learns_to_adapt_on_cartpole() -> None:
    scenario = find_scenario("cartpole-wiring-v1")
    agent = Maml(scenario.family.spec, MamlConfig(), 0, CPU)
    meta_train(agent, make_training(scenario, budget=int(scenario.budget.meta_train)))
    curve = evaluate(agent, scenario, "test", seed=0, device=CPU)
    after = dict(zip(curve.k, curve.returns.mean((0, 2)), strict=True))
    assert after[0] < 110  # seeds 0 to 4 gave 45 to 90,
    assert after[1] > 150  # 163 to 192,
    assert after[3] > 185  # and 196 to 200
