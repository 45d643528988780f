"""How many control steps a second of MuJoCo robots, side by side with Gymnasium and EnvPool.

    python benchmarks/locomotion_speed.py            # writes benchmarks/results/locomotion_speed.json

What is compared. Every method plays the robot of Gymnasium's v5 environment with random actions that were drawn
beforehand, with observations, rewards and terminations, and without contact forces. Ours has 256 environment instances,
each with its own gravity, masses, inertias, friction, gears and damping. EnvPool has 256 instances and Gymnasium one,
all with the same physics, because they do not support others. Only simulated control steps count, but the time of every
reset does: EnvPool and Gymnasium reset a robot when it falls; ours, which has no autoreset, resets all instances once
fewer than half are active. "raw" is a bare `mj_step` loop on one core with one robot and no observations; "raw, fast
model" is the same loop with the model that ours uses, whose trajectories are bit-identical. Multiplied by the number of
cores, it is the upper bound.

How. The methods of one robot share a process and take turns in short slices of time. A figure is the median of the
slices in which other processes took less than `QUIET` of the cores, or of all slices if too few were that quiet.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

from machine import Bystanders, describe

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "locomotion_speed.json"
ROBOTS = {
    "half_cheetah": "HalfCheetah-v5",
    "ant": "Ant-v5",
    "walker2d": "Walker2d-v5",
    "hopper": "Hopper-v5",
    "humanoid": "Humanoid-v5",
    "swimmer": "Swimmer-v5",
}
CONTACT_FORCES = ("ant", "humanoid")  # the robots whose v5 environments observe them by default
DISTINCT = ("gravity", "body_mass", "body_inertia", "geom_friction", "actuator_gear", "joint_damping")
NUM_ENVS = 256
THREADS = 2
SLICE = 0.4  # [s]
ROUNDS = 9  # quiet ones to have
MOST_ROUNDS = 40
QUIET = 0.05
ACTIONS = 64  # batches of actions, played round and round

Play = Callable[[], int]  # one call: how many control steps it simulated


def gymnasium_single(robot: str) -> Play:
    import gymnasium
    import numpy as np
    from mrl_tasks.locomotion.cpu import quiet

    options = {"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0.0}
    with quiet():
        env = gymnasium.make(
            ROBOTS[robot], disable_env_checker=True, **(options if robot in CONTACT_FORCES else {})
        )
    env.reset(seed=0)
    low, high = env.action_space.low, env.action_space.high
    actions = cycle(np.random.default_rng(0).uniform(low, high, (ACTIONS, len(low))))

    def play() -> int:
        _, _, terminated, truncated, _ = env.step(next(actions))
        if terminated or truncated:
            env.reset()
        return 1

    return play


def envpool(robot: str) -> Play:
    import envpool
    import numpy as np

    options = {"use_contact_force": False, "contact_cost_weight": 0.0}
    env = envpool.make(
        ROBOTS[robot],
        env_type="gymnasium",
        num_envs=NUM_ENVS,
        num_threads=THREADS,
        post_constraint=False,  # computes the contact forces
        **(options if robot in CONTACT_FORCES else {}),
    )
    env.reset()
    low, high = env.action_space.low, env.action_space.high
    actions = cycle(np.random.default_rng(0).uniform(low, high, (ACTIONS, NUM_ENVS, len(low))))
    active = NUM_ENVS

    def play() -> int:
        nonlocal active
        simulated = active  # the others are reset in this call
        _, _, terminated, truncated, _ = env.step(next(actions))
        active = NUM_ENVS - int(np.count_nonzero(terminated | truncated))
        return simulated

    return play


def ours(robot: str) -> Play:
    import numpy as np
    import torch
    from mrl_tasks.locomotion import Locomotion, cpu

    from mrl_bench.types import TaskBatch

    torch.set_num_threads(1)  # what waits actively takes a core from what simulates
    cpu.THREADS = THREADS
    family, rng = Locomotion(robot=robot), np.random.default_rng(0)
    values = [
        param.default
        * (rng.uniform(0.8, 1.25, NUM_ENVS) if name.partition("[")[0] in DISTINCT else np.ones(NUM_ENVS))
        for name, param in family.params.items()
    ]
    env = family.make(TaskBatch(tuple(family.params), np.stack(values, 1)), 1, torch.device("cpu"))
    drawn = torch.empty(ACTIONS, NUM_ENVS, 1, family.spec.act_dim)
    actions = cycle(drawn.uniform_(-1, 1, generator=torch.Generator().manual_seed(0)).unbind())
    seed, t, alive = 0, 0, np.zeros((NUM_ENVS, 1), dtype=bool)

    @torch.no_grad()
    def play() -> int:
        nonlocal seed, t, alive
        active = int(np.count_nonzero(alive))
        if 2 * active < NUM_ENVS or t == family.horizon:
            env.reset(seed)
            seed, t, active, alive = seed + 1, 0, NUM_ENVS, np.ones_like(alive)
        step = env.step(next(actions))
        alive, t = alive & ~(step.terminated | step.failed).numpy(), t + 1
        return active

    return play


def raw(robot: str, fast: bool) -> Play:
    import mujoco
    import numpy as np
    from mrl_tasks.locomotion.models import as_built
    from mrl_tasks.locomotion.robots import ROBOTS as BODIES
    from mrl_tasks.locomotion.robots import model_path

    body = BODIES[robot]
    model = as_built(body)
    if not fast:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # half_cheetah.xml has a deprecated attribute
            model = mujoco.MjSpec.from_file(str(model_path(body))).compile()
    data = mujoco.MjData(model)
    shape, limit = (ACTIONS, model.nu), body.control_limit
    actions = cycle(np.random.default_rng(0).uniform(-limit, limit, shape))
    low, high = body.healthy_height or (-math.inf, math.inf)
    left, right = body.healthy_pitch or (-math.inf, math.inf)
    height, pitch = body.root.height or 0, body.root.pitch or 0

    def play() -> int:
        data.ctrl[:] = next(actions)
        mujoco.mj_step(model, data, body.frame_skip)
        if not (low < data.qpos[height] < high and left < data.qpos[pitch] < right):
            mujoco.mj_resetData(model, data)
        return 1

    return play


METHODS: dict[str, Callable[[str], Play]] = {
    "raw, one core": lambda robot: raw(robot, fast=False),
    "raw, fast model, one core": lambda robot: raw(robot, fast=True),
    "gymnasium, one": gymnasium_single,
    "envpool": envpool,
    "ours": ours,
}


def measure(robot: str) -> dict[str, Any]:
    """Control steps a second of every method, or None where a peer is not installed."""
    plays: dict[str, Play | None] = {}
    for name, prepare in METHODS.items():
        try:
            plays[name] = prepare(robot)
        except ModuleNotFoundError as error:
            print(f"{name}: not installed ({error.name})", file=sys.stderr)
            plays[name] = None
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in plays}  # (others' share, steps/s)
    for play in filter(None, plays.values()):
        slice_of(play)  # spreads the instances over their episodes
    for _ in range(MOST_ROUNDS):
        for name, play in plays.items():
            if play is not None:
                rates[name].append(slice_of(play))
        if all(len(quiet(slices)) >= ROUNDS for slices in rates.values() if slices):
            break
    return {
        "robot": robot,
        "steps_per_second": {
            name: median(quiet(slices) if len(quiet(slices)) >= ROUNDS else [rate for _, rate in slices])
            if slices
            else None
            for name, slices in rates.items()
        },
        "quiet_slices": {name: f"{len(quiet(slices))} of {len(slices)}" for name, slices in rates.items()},
    }


def slice_of(play: Play) -> tuple[float, float]:
    """Plays for a slice of time: the share of the cores that others took, and the steps a second."""
    others, steps, start = Bystanders(), 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < SLICE:
        steps += play()
    return others.share(), steps / passed


def quiet(slices: list[tuple[float, float]]) -> list[float]:
    return [rate for share, rate in slices if share < QUIET]


def compare(results: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Ours divided by each peer, and by the raw rate of the fast model on all cores, for each robot."""
    ratios: dict[str, dict[str, float]] = {}
    for other, cores in (("gymnasium, one", 1), ("envpool", 1), ("raw, fast model, one core", THREADS)):
        found = {
            result["robot"]: result["steps_per_second"]["ours"] / (result["steps_per_second"][other] * cores)
            for result in results
            if result["steps_per_second"][other]
        }
        if found:
            found["geometric mean"] = math.exp(sum(map(math.log, found.values())) / len(found))
            ratios[f"ours / ({other} x {cores})" if cores > 1 else f"ours / {other}"] = found
    return ratios


def table(results: list[dict[str, Any]]) -> str:
    robots = [result["robot"] for result in results]
    lines = [" " * 42 + "".join(f"{robot:>15}" for robot in (*robots, "geometric mean"))]
    for name in METHODS:
        rates = [result["steps_per_second"][name] for result in results]
        cells = [f"{rate:,.0f}" if rate else "not installed" for rate in rates]
        lines.append(name.ljust(42) + "".join(f"{cell:>15}" for cell in cells))
    for name, ratios in compare(results).items():
        lines.append(name.ljust(42) + "".join(f"{ratio:>15.2f}" for ratio in ratios.values()))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--robots", nargs="+", choices=ROBOTS, default=list(ROBOTS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # measures here, prints JSON
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.robots[0])))
        return

    results = []
    for robot in args.robots:
        one = [sys.executable, __file__, "--one", "--robots", robot]
        run = subprocess.run(one, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
        results.append(json.loads(run.stdout.splitlines()[-1]))
        print(f"{robot}: quiet slices {results[-1]['quiet_slices']}", flush=True)
    record = {
        "machine": describe(("mujoco", "gymnasium", "envpool", "torch", "numpy")),
        "method": __doc__,
        "num_envs": NUM_ENVS,
        "threads": THREADS,
        "slice_s": SLICE,
        "results": results,
        "ratios": compare(results),
    }
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(record, indent=2) + "\n")
    print(table(results))


def environment() -> dict[str, str]:
    """Of a process that may use `THREADS` threads and imports our packages."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tasks")))
    return os.environ | {"OMP_NUM_THREADS": str(THREADS), "PYTHONPATH": path}


if __name__ == "__main__":
    main()
