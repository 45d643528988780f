"""Compares CartPole with Gymnasium, with the equations of motion, and with values computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.envs import classic_control
from mrl_tasks.cartpole import CartPole
from mrl_tasks.cartpole.environment import CartPoleEnv, Physics, accelerations
from torch import Tensor

from mrl_bench.errors import UsageError
from mrl_bench.keyed_random import uniforms
from mrl_bench.protocol.rollout import play as play_episode
from mrl_bench.types import Memory, Rollout, State, Step, TaskBatch, TimeStep

CPU = torch.device("cpu")
DOUBLE = torch.float64


def tasks(family: CartPole, *changes: dict[str, float]) -> TaskBatch:
    values = [[task.get(name, param.default) for name, param in family.params.items()] for task in changes]
    return TaskBatch(tuple(family.params), np.array(values))


def carts(
    family: CartPole, *changes: dict[str, float], episodes: int = 1, compile: bool = False
) -> CartPoleEnv:
    return CartPoleEnv(family, tasks(family, *changes), episodes, CPU, DOUBLE, compile=compile)


def noise(*shape: int) -> Tensor:
    """Uniform in (-1, 1)."""
    return torch.tensor(2.0 * uniforms(("test_cartpole",), *shape) - 1.0)


def trajectory(env: CartPoleEnv, actions: Tensor, seed: int = 0) -> Tensor:
    """Observations (T + 1, B, E, O) under actions (T, B, E)."""
    return torch.stack([env.reset(seed), *(env.step(action[..., None]).obs for action in actions)])


def balance(obs: Tensor) -> Tensor:
    """A linear controller that keeps the default pole up for a full episode, (B, E)."""
    return obs @ torch.tensor([0.5, 1.0, 15.0, 3.0], dtype=obs.dtype)


def test_bang_bang_is_gymnasiums_cartpole() -> None:
    controlled, episodes, horizon = 50, 100, 500
    random = noise(horizon, 1, episodes)
    env = carts(CartPole(control="bang_bang"), {}, episodes=episodes)
    obs = env.reset(0)
    states, pushes, ends = [obs], [], []
    for t in range(horizon):
        action = torch.where(torch.arange(episodes) < controlled, balance(obs), random[t])
        step = env.step(action[..., None])
        obs = step.obs
        states.append(obs)
        pushes.append(action > 0)
        ends.append(step.terminated)
        assert (step.reward == 1.0).all()
    ours = torch.stack(states)[:, 0].numpy()  # (T + 1, E, 4)
    pushed, ended = torch.stack(pushes)[:, 0].int().tolist(), torch.stack(ends)[:, 0].tolist()  # (T, E)

    lengths = []
    for e in range(episodes):
        gym: Any = classic_control.CartPoleEnv()  # untyped
        gym.reset()
        gym.state = ours[0, e]
        theirs = []
        for t in range(horizon):
            _, _, terminated, _, _ = gym.step(pushed[t][e])
            theirs.append(gym.state)
            assert ended[t][e] == terminated, f"episode {e}, step {t}"
            if terminated:
                break
        np.testing.assert_allclose(ours[1 : len(theirs) + 1, e], theirs, rtol=0, atol=1e-12)
        lengths.append(len(theirs))
    assert min(lengths[:controlled]) == horizon, "the controller should keep the pole up for a whole episode"
    assert max(lengths[controlled:]) < horizon, "random actions should end every episode early"


def test_initial_states_are_keyed_random_numbers_within_5_hundredths() -> None:
    start = carts(CartPole(), {}, {}, episodes=3).reset(11)
    np.testing.assert_allclose(start.numpy(), 0.1 * uniforms(("reset", 11), 2, 3, 4) - 0.05, atol=1e-16)


def some_physics(tasks_: int = 200) -> tuple[Physics, Tensor, Tensor, Tensor, Tensor, TaskBatch]:
    """Tasks from all over the parameter box, and x_dot, theta, theta_dot and force for each, (B, 1)."""
    family = CartPole()
    low, high = (np.array([getattr(p, end) for p in family.params.values()]) for end in ("low", "high"))
    batch = TaskBatch(
        tuple(family.params), low + (high - low) * uniforms(("physics",), tasks_, len(family.params))
    )
    x_dot, theta, theta_dot, force = 3.0 * noise(4, tasks_, 1)
    return Physics.of(batch, CPU, DOUBLE), x_dot, theta, theta_dot, force, batch


def test_accelerations_solve_the_equations_of_motion() -> None:
    """Lagrange's equations of a cart and a rod of moment m (2 l)^2 / 12 about its middle, with friction."""
    physics, x_dot, theta, theta_dot, force, batch = some_physics()
    M, m, length, g, mu_c, mu_p = (
        torch.tensor(batch.column(name))[:, None]
        for name in (
            "cart_mass",
            "pole_mass",
            "pole_half_length",
            "gravity",
            "cart_friction",
            "pole_friction",
        )
    )
    x_acc, theta_acc = accelerations(x_dot, theta, theta_dot, force, physics)
    cart = (M + m) * x_acc + m * length * (theta_acc * theta.cos() - theta_dot**2 * theta.sin())
    torch.testing.assert_close(cart, force - mu_c * x_dot.sign())
    inertia = m * (2 * length) ** 2 / 12 + m * length**2
    pole = inertia * theta_acc + m * length * theta.cos() * x_acc
    torch.testing.assert_close(pole, m * length * g * theta.sin() - mu_p * theta_dot)


def test_friction_dissipates_energy_at_the_rate_of_the_formula() -> None:
    """Without other forces, energy changes by the power of friction, -mu_c |x_dot| - mu_p theta_dot^2."""
    physics, x_dot, theta, theta_dot, force, _ = some_physics()
    for state in (x_dot, theta, theta_dot):
        state.requires_grad_()
    m_l = physics.pole_moment
    energy = (
        physics.total_mass * x_dot**2 / 2
        + m_l * x_dot * theta_dot * theta.cos()
        + 2 / 3 * m_l * physics.pole_half_length * theta_dot**2
        + m_l * physics.gravity * theta.cos()
    )
    by_x_dot, by_theta, by_theta_dot = torch.autograd.grad(energy.sum(), (x_dot, theta, theta_dot))
    with torch.no_grad():
        x_acc, theta_acc = accelerations(x_dot, theta, theta_dot, torch.zeros_like(force), physics)
        power = by_x_dot * x_acc + by_theta * theta_dot + by_theta_dot * theta_acc
        friction = -physics.cart_friction * x_dot.abs() - physics.pole_friction * theta_dot**2
    assert (friction < 0).all()
    torch.testing.assert_close(power, friction)


def test_a_pole_falls_about_a_heavy_cart_at_three_quarters_of_g_over_l() -> None:
    env = carts(CartPole(), {"cart_mass": 20.0, "pole_mass": 0.005})
    env.reset(0)
    env.state = torch.tensor([0.0, 0.0, 0.1, 0.0], dtype=DOUBLE).view(4, 1, 1)
    theta_dot = env.step(torch.zeros(1, 1, 1)).obs[0, 0, 3].item()
    assert theta_dot / 0.02 == pytest.approx(0.75 * 9.8 / 0.5 * np.sin(0.1), rel=3e-4)


def test_delay_shifts_the_actions() -> None:
    delays = range(11)
    actions = 0.2 * noise(40, 11, 2)
    late_by = [torch.cat([torch.zeros(k, 2), actions[: 40 - k, k]]) for k in delays]
    shifted = torch.stack(late_by, 1)  # (T, B, E)
    family = CartPole()
    late = carts(family, *({"actuator_delay": float(k)} for k in delays), episodes=2)
    expected = trajectory(carts(family, *({} for _ in delays), episodes=2), shifted)
    assert torch.equal(trajectory(late, actions), expected)
    assert torch.equal(trajectory(late, actions), expected), "an episode inherits actions from the one before"


def test_a_delay_that_is_not_a_legal_number_of_steps_is_rejected() -> None:
    for delay in (0.5, -1.0, 11.0, np.nan):
        with pytest.raises(UsageError, match="actuator_delay"):
            carts(CartPole(), {}, {"actuator_delay": delay})


@pytest.mark.parametrize("control", ["force", "bang_bang"])
def test_a_reversed_motor_negates_the_action(control: str) -> None:
    family, actions = CartPole(control=control), 0.5 * noise(30, 1, 4)  # type: ignore[arg-type]
    backwards = trajectory(carts(family, {"wiring": -1.0}, episodes=4), actions)
    assert torch.equal(backwards, trajectory(carts(family, {}, episodes=4), -actions))


def test_wind_is_a_constant_force() -> None:
    actions = 0.5 * noise(30, 1, 4)
    windy = trajectory(carts(CartPole(), {"wind_force": 2.0}, episodes=4), actions)
    pushed = trajectory(carts(CartPole(), {}, episodes=4), actions + 0.2)
    torch.testing.assert_close(windy, pushed, rtol=0, atol=1e-12)


def test_target_reward_falls_by_half_a_metre_and_ends_at_2_m() -> None:
    family = CartPole(reward="target")
    env = carts(family, *({"target_position": target} for target in (0.0, 1.0, -1.0, -2.0)))
    env.reset(0)
    env.state = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=DOUBLE).view(4, 1, 1).repeat(1, 4, 1)
    reward = env.step(torch.zeros(4, 1, 1)).reward
    torch.testing.assert_close(reward[:, 0], torch.tensor([0.5, 1.0, 0.0, 0.0], dtype=DOUBLE))


def test_target_reward_depends_on_the_state_after_the_step() -> None:
    env = carts(CartPole(reward="target"), {})
    env.reset(0)
    env.state = torch.tensor([0.5, 5.0, 0.0, 0.0], dtype=DOUBLE).view(4, 1, 1)
    assert env.step(torch.zeros(1, 1, 1)).reward.item() == pytest.approx(1 - 0.6 / 2)


def test_only_the_target_reward_has_a_target() -> None:
    assert "target_position" not in CartPole().params
    assert "target_position" in CartPole(reward="target").params


@pytest.mark.parametrize("entry", range(4))
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_broken_state_fails_in_its_step_and_earns_nothing(entry: int, poison: float) -> None:
    class Poisoned(CartPoleEnv):
        """Instance (0, 1) breaks down before the fourth step."""

        def step(self, action: Tensor) -> Step:
            self.steps = getattr(self, "steps", 0) + 1
            if self.steps == 4:
                self.state[entry, 0, 1] = poison
            return super().step(action)

    def act(
        state: State, memory: Memory, step: TimeStep, explore: bool, rng: torch.Generator
    ) -> tuple[Tensor, Memory]:
        return balance(step.obs)[..., None], memory

    family = CartPole(horizon=20)

    def play(kind: type[CartPoleEnv]) -> Rollout:
        env = kind(family, tasks(family, {}, {}), 2, CPU)
        return play_episode(env, env.reset(0), family.spec, act, {}, (), noise_seed=0, explore=False)[0]

    sound, broken = play(CartPoleEnv), play(Poisoned)
    assert broken.failed.tolist() == [[False, True], [False, False]]
    assert broken.returns().tolist() == [[20.0, 3.0], [20.0, 20.0]]
    assert not broken.terminated.any()
    assert torch.equal(broken.obs[1], sound.obs[1])


def test_ended_instances_do_not_change() -> None:
    env = carts(CartPole(), {}, episodes=4)
    states, ended = [env.reset(0)], []
    for action in torch.ones(60, 1, 4, 1):
        step = env.step(action)
        states.append(step.obs)
        ended.append(step.terminated)
    first = torch.stack(ended).int().argmax(0)  # (1, 4) the step in which each ended
    assert (first > 0).all()
    assert first.unique().numel() > 1
    for e in range(4):
        last = states[first[0, e] + 1][0, e]
        assert max(last[0].abs() / 2.4, last[2].abs() / np.radians(12)) > 1
        assert all(torch.equal(later[0, e], last) for later in states[first[0, e] + 1 :])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # raised by the compiler itself
@pytest.mark.parametrize("control", ["force", "bang_bang"])
@pytest.mark.parametrize("reward", ["balance", "target"])
def test_the_compiled_step_agrees_to_rounding(control: str, reward: str) -> None:
    family = CartPole(control=control, reward=reward)  # type: ignore[arg-type]
    odd = {
        "cart_friction": 0.5,
        "pole_friction": 0.01,
        "actuator_delay": 3.0,
        "wind_force": 0.5,
        "wiring": -1.0,
    }
    actions = noise(20, 2, 5)
    eager = trajectory(carts(family, {}, odd, episodes=5), actions)
    compiled = trajectory(carts(family, {}, odd, episodes=5, compile=True), actions)
    torch.testing.assert_close(compiled, eager, rtol=0, atol=1e-12)
