"""How many CartPole steps a second, side by side with Gymnasium and EnvPool.

    python benchmarks/cartpole_speed.py            # writes benchmarks/results/cartpole_speed.json

What is compared. Every method plays CartPole-v1 under the same kind of random bang-bang actions, drawn beforehand,
and every slot lives in every step that is counted: an episode lasts some 22 steps, and a slot whose episode has
ended starts anew from a fresh random state. Gymnasium's and EnvPool's vectorised environments do that by themselves,
in a call of its own that is counted as a step, though it simulates none. Ours has no autoreset, so `restart` below
does it after each step, and its time counts. Ours is float32 and each slot has its own physics, with wind, friction
and failure checks; the others compute in float64 (EnvPool in C++ doubles), all slots with the same physics.

How. All methods of a size run in one process of its own, in interleaved slices; a figure is the median of the slices in
which other processes took less than `QUIET` of the cores, or of all slices where too few were that quiet.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from machine import Bystanders, describe

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "cartpole_speed.json"
SIZES = (1, 64, 1_024, 65_536)
THREADS = (1, 2)
SLICE = 0.35  # [s]
ROUNDS = 9  # quiet ones to have
MOST_ROUNDS = 40
QUIET = 0.05
ACTIONS = 64  # batches of actions, played round and round

Play = Callable[[], Any]  # one call: one step of every slot


def gymnasium_single(slots: int, threads: int) -> Play:
    """One environment, whatever the number of slots."""
    import gymnasium
    import numpy as np

    env = gymnasium.make("CartPole-v1")
    env.reset(seed=0)
    actions = cycle(np.random.default_rng(0).integers(0, 2, ACTIONS).tolist())

    def play() -> None:
        _, _, terminated, truncated, _ = env.step(next(actions))
        if terminated or truncated:
            env.reset()

    return play


def gymnasium_vector(slots: int, threads: int) -> Play:
    import gymnasium
    import numpy as np

    env = gymnasium.make_vec("CartPole-v1", num_envs=slots, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    actions = cycle(list(np.random.default_rng(0).integers(0, 2, (ACTIONS, slots))))
    return lambda: env.step(next(actions))


def envpool(slots: int, threads: int) -> Play:
    import envpool
    import numpy as np

    env = envpool.make("CartPole-v1", env_type="gymnasium", num_envs=slots, num_threads=min(threads, slots))
    env.reset()
    actions = cycle(list(np.random.default_rng(0).integers(0, 2, (ACTIONS, slots)).astype(np.int32)))
    return lambda: env.step(next(actions))


def ours(slots: int, threads: int, compile: bool) -> Play:
    import numpy as np
    import torch

    from mrl_bench.types import TaskBatch
    from mrl_tasks.cartpole import CartPole
    from mrl_tasks.cartpole.simulation import LIVES, START_LIMIT, Carts

    family = CartPole(control="bang_bang")
    rng = np.random.default_rng(0)
    physics = ("gravity", "cart_mass", "pole_mass", "pole_half_length", "force_magnitude")
    values = [
        param.default * (rng.uniform(0.8, 1.2, slots) if name in physics else np.ones(slots))
        for name, param in family.params.items()
    ]
    env = Carts(
        family, TaskBatch(tuple(family.params), np.stack(values, 1)), 1, torch.device("cpu"), compile=compile
    )
    env.reset(0)
    generator = torch.Generator().manual_seed(0)
    actions = cycle(list(2.0 * torch.randint(0, 2, (ACTIONS, slots, 1, 1), generator=generator) - 1.0))

    def restart(ended: torch.Tensor) -> None:
        slot = ended.view(-1).nonzero().view(-1)
        fresh = torch.empty(4, len(slot)).uniform_(-START_LIMIT, START_LIMIT, generator=generator)
        env.state[:, slot, 0] = fresh
        env.fate[slot, 0] = LIVES

    @torch.no_grad()
    def play() -> None:
        step = env.step(next(actions))
        restart(step.terminated | step.failed)

    return play


METHODS: dict[str, Callable[[int, int], Play]] = {
    "gymnasium CartPole-v1, one": gymnasium_single,
    "gymnasium CartPoleVectorEnv": gymnasium_vector,
    "envpool": envpool,
    "ours, eager": lambda slots, threads: ours(slots, threads, compile=False),
    "ours, compiled": lambda slots, threads: ours(slots, threads, compile=True),
}


def cycle(batches: list[Any]) -> Iterator[Any]:
    while True:
        yield from batches
