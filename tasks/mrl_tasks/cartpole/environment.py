"""Batched CartPole in torch: one function steps all B x E carts, each task with its own physics."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrl_bench.keyed_random import uniforms
from mrl_bench.types import Step, TaskBatch
from mrl_tasks.cartpole.family import DT, TRACK_LIMIT, CartPole
from mrl_tasks.delay import DelayLine
from mrl_tasks.validation import require_listed_values

ANGLE_LIMIT = 12 * 2 * math.pi / 360  # [rad] from upright
START_LIMIT = 0.05  # [m, m/s, rad, rad/s] each entry of the initial state is uniform in [-0.05, 0.05]
TARGET_REACH = 2.0  # [m] distance from the target at which the reward reaches 0


class Physics(NamedTuple):
    """The physics of B tasks. Each field is (B, 1) and broadcasts over the episodes of a task."""

    gravity: Tensor  # [m/s^2]
    total_mass: Tensor  # [kg] cart and pole
    pole_mass: Tensor  # [kg]
    pole_half_length: Tensor  # [m]
    pole_moment: Tensor  # [kg m] pole mass times half length
    motor_force: Tensor  # [N] at action 1; negative if the motor is reversed
    wind_force: Tensor  # [N]
    cart_friction: Tensor  # [N]
    pole_friction: Tensor  # [N m s]
    target_position: Tensor  # [m]

    @classmethod
    def of(cls, tasks: TaskBatch, device: torch.device, dtype: torch.dtype) -> Physics:
        def tensor(column: NDArray[np.float64]) -> Tensor:
            return torch.tensor(column[:, None], device=device, dtype=dtype)  # (B, 1)

        cart_mass, pole_mass = tasks.column("cart_mass"), tasks.column("pole_mass")
        half_length = tasks.column("pole_half_length")
        has_target = "target_position" in tasks.names
        target = tasks.column("target_position") if has_target else np.zeros(len(tasks))
        return cls(
            gravity=tensor(tasks.column("gravity")),
            total_mass=tensor(pole_mass + cart_mass),
            pole_mass=tensor(pole_mass),
            pole_half_length=tensor(half_length),
            pole_moment=tensor(pole_mass * half_length),
            motor_force=tensor(tasks.column("force_magnitude") * tasks.column("wiring")),
            wind_force=tensor(tasks.column("wind_force")),
            cart_friction=tensor(tasks.column("cart_friction")),
            pole_friction=tensor(tasks.column("pole_friction")),
            target_position=tensor(target),
        )


def accelerations(
    x_dot: Tensor, theta: Tensor, theta_dot: Tensor, force: Tensor, physics: Physics
) -> tuple[Tensor, Tensor]:
    """Accelerations of the cart [m/s^2] and the pole [rad/s^2] under a force [N] on the cart, all (B, E).

    The equations of Barto, Sutton & Anderson 1983 ("Neuronlike adaptive elements that can solve difficult
    learning control problems", appendix), with M the cart's mass, m the pole's and l half the pole's length:

        theta_acc = (g sin theta - cos theta (F + m l theta_dot^2 sin theta - mu_c sgn x_dot) / (M + m)
                     - mu_p theta_dot / (m l))  /  (l (4/3 - m cos^2 theta / (M + m)))
        x_acc = (F + m l (theta_dot^2 sin theta - theta_acc cos theta) - mu_c sgn x_dot) / (M + m)

    As in the paper, mu_c is a force [N] that does not depend on the load on the track; mu_p is in N m s. The order
    of operations is that of Gymnasium's `CartPoleEnv.step`. Without friction, both friction terms are exactly 0.
    """
    sin, cos = theta.sin(), theta.cos()
    net_force = force - physics.cart_friction * x_dot.sign()
    push = (net_force + physics.pole_moment * theta_dot.square() * sin) / physics.total_mass
    drag = physics.pole_friction * theta_dot / physics.pole_moment
    lever = physics.pole_half_length * (4.0 / 3.0 - physics.pole_mass * cos.square() / physics.total_mass)
    theta_acc = (physics.gravity * sin - cos * push - drag) / lever
    x_acc = push - physics.pole_moment * theta_acc * cos / physics.total_mass
    return x_acc, theta_acc


def advance(
    state: Tensor, ended: Tensor, action: Tensor, physics: Tensor, control: str, reward: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One explicit Euler step of every instance that has not ended. Pure, so that `torch.compile` can fuse it.

    It avoids fused multiply-adds (`addcmul`, `add(alpha=)`), whose rounding depends on the index in the batch.

    Args:
        state: x, x_dot, theta and theta_dot in SI units, (4, B, E).
        ended: 1 where the episode terminated (first row) or the simulation broke down (second row), else 0,
            (2, B, E). These instances do not change.
        action: the action that reaches the motor in this step, (B, E, 1).
        physics: the fields of `Physics`, (10, B, 1), in one tensor because each argument slows a compiled call.
        control, reward: the options of `CartPole`.

    Returns:
        `state` and `ended` after the step, the observation (B, E, 4), the reward (B, E), and `ended` as bytes,
        because compiled CPU code writes bools slowly. An instance whose next state or reward is not finite keeps its
        state and is marked as broken down.
    """
    task = Physics(*physics.unbind(0))
    x, x_dot, theta, theta_dot = before = state.unbind(0)
    command = action.squeeze(-1).to(x.dtype)
    throttle = command.clamp(-1.0, 1.0) if control == "force" else 2.0 * (command > 0).to(x.dtype) - 1.0
    force = throttle * task.motor_force + task.wind_force
    x_acc, theta_acc = accelerations(x_dot, theta, theta_dot, force, task)
    x, x_dot, theta, theta_dot = after = (
        x + DT * x_dot,
        x_dot + DT * x_acc,
        theta + DT * theta_dot,
        theta_dot + DT * theta_acc,
    )
    if reward == "balance":
        earned = torch.ones_like(x)
    else:
        earned = (1.0 - (x - task.target_position).abs() / TARGET_REACH).clamp(0.0, 1.0)

    finite = (x + x_dot + theta + theta_dot + earned).abs() < math.inf  # inf and NaN propagate to the sum
    fallen = torch.maximum(x.abs() - TRACK_LIMIT, theta.abs() - ANGLE_LIMIT) > 0
    terminated, broke = ended.unbind(0)
    alive = terminated + broke == 0
    moves = alive & finite
    state = torch.stack([torch.where(moves, new, old) for new, old in zip(after, before, strict=True)])
    ended = torch.stack(
        [torch.where(moves & fallen, 1.0, terminated), torch.where(alive & ~finite, 1.0, broke)]
    )
    return state, ended, state.clone().permute(1, 2, 0), earned, ended.to(torch.uint8)


class CartPoleEnv:
    """B tasks x E episodes of CartPole; a `BatchEnv`.

    `state` (4, B, E) and `ended` (2, B, E) are described in `advance`.
    """

    state: Tensor
    ended: Tensor

    def __init__(
        self,
        family: CartPole,
        tasks: TaskBatch,
        episodes: int,
        device: torch.device,
        dtype: torch.dtype | None = None,
        *,
        compile: bool = False,
    ) -> None:
        """`compile` fuses a step into one kernel. It is off by default because that kernel rounds differently."""
        require_listed_values(family.params, tasks)
        self._options = family.control, family.reward
        self._physics = torch.stack(Physics.of(tasks, device, dtype or torch.float32))  # (10, B, 1)
        self._advance = torch.compile(advance) if compile else advance
        self._shape = (len(tasks), episodes)
        no_action = self._physics.new_zeros(*self._shape, 1)
        self._delay_line = DelayLine(tasks.column("actuator_delay"), no_action)

    def reset(self, seed: int) -> Tensor:
        start = START_LIMIT * (2.0 * uniforms(("reset", seed), *self._shape, 4) - 1.0)  # (B, E, 4)
        self.state = torch.from_numpy(start).permute(2, 0, 1).contiguous().to(self._physics)
        self.ended = self.state.new_zeros(2, *self._shape)
        self._delay_line.reset()
        return self.state.clone().permute(1, 2, 0)

    def step(self, action: Tensor) -> Step:
        arriving = self._delay_line.send(action)
        self.state, self.ended, obs, reward, ended = self._advance(
            self.state, self.ended, arriving, self._physics, *self._options
        )
        terminated, failed = ended.view(torch.bool).unbind(0)
        return Step(obs, reward, terminated, failed)

    def render(self, task: int, episode: int, width: int, height: int) -> NDArray[np.uint8]:
        """See `mrl_bench.family.Renderable`."""
        from mrl_tasks.cartpole.rendering import draw

        x, _, theta, _ = self.state[:, task, episode].tolist()
        physics = Physics(*self._physics[:, task, 0])
        target = physics.target_position.item() if self._options[1] == "target" else None
        return draw(x, theta, physics.pole_half_length.item(), target, width, height)

    def close(self) -> None:
        pass
