"""Tasks, environments and a driver for the tests of driving."""

from __future__ import annotations

import numpy as np
import torch
from mrl_tasks.driving import Driving
from mrl_tasks.driving.environment import DrivingEnv
from mrl_tasks.driving.vehicle import WHEELBASE
from torch import Tensor

from mrl_bench.types import Step, TaskBatch

CPU = torch.device("cpu")
DOUBLE = torch.float64


def tasks(family: Driving, *changes: dict[str, float]) -> TaskBatch:
    values = [[task.get(name, param.default) for name, param in family.params.items()] for task in changes]
    return TaskBatch(tuple(family.params), np.array(values))


def cars(
    family: Driving, *changes: dict[str, float], episodes: int = 1, use_torch: bool = False
) -> DrivingEnv:
    """In float64. Args: changes: for each task what is not at its default."""
    return DrivingEnv(family, tasks(family, *changes or ({},)), episodes, CPU, DOUBLE, use_torch=use_torch)


def follow(obs: Tensor) -> Tensor:
    """Steers at the point of the route 10 m ahead (pure pursuit) and comes to the target speed; (B, E, 2)."""
    x, y = obs[..., 9], obs[..., 10]
    steer = torch.atan2(2 * WHEELBASE * y, x * x + y * y) / 0.6
    return torch.stack([steer, 0.4 * (obs[..., 6] - obs[..., 0])], -1).clamp(-1.0, 1.0)


def drive(env: DrivingEnv, steps: int, seed: int = 0) -> tuple[Tensor, list[Step]]:
    """Follows the route: the first observation, and every step."""
    first = obs = env.reset(seed)
    rows = []
    for _ in range(steps):
        rows.append(env.step(follow(obs)))
        obs = rows[-1].obs
    return first, rows
