"""How many CartPole steps a second, side by side with Gymnasium and EnvPool.

    python benchmarks/cartpole_speed.py            # writes benchmarks/results/cartpole_speed.json

What is compared. Every method plays CartPole-v1 with random bang-bang actions that were drawn beforehand. Every
environment instance is active in every step that counts: an episode lasts about 22 steps, and an instance whose episode
has ended is reset. Gymnasium's and EnvPool's vector environments reset by themselves, in a separate call that counts as
a step although it moves nothing. Ours has no autoreset: `restart` below resets after each step, to initial states that
were drawn beforehand too, and its time counts. In ours each instance has its own physics, with wind, friction and a
check for numbers that are not finite; in theirs all instances share one physics. Ours computes in float32, Gymnasium in
float64.

How. The methods of one size share a process and take turns in short slices of time. A figure is the median of the
slices in which other processes took less than `QUIET` of the cores, or of all slices if too few were that quiet.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from itertools import cycle
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

Play = Callable[[], Any]  # one call: one step of every instance


def gymnasium_single(num_envs: int, threads: int) -> Play:
    """One environment, whatever `num_envs` is."""
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


def gymnasium_vector(num_envs: int, threads: int) -> Play:
    import gymnasium
    import numpy as np

    env = gymnasium.make_vec("CartPole-v1", num_envs=num_envs, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    actions = cycle(np.random.default_rng(0).integers(0, 2, (ACTIONS, num_envs)))
    return lambda: env.step(next(actions))


def envpool(num_envs: int, threads: int) -> Play:
    import numpy as np

    env = import_module("envpool").make(
        "CartPole-v1", env_type="gymnasium", num_envs=num_envs, num_threads=min(threads, num_envs)
    )
    env.reset()
    actions = cycle(np.random.default_rng(0).integers(0, 2, (ACTIONS, num_envs), dtype=np.int32))
    return lambda: env.step(next(actions))


def ours(num_envs: int, threads: int, compile: bool) -> Play:
    import numpy as np
    import torch
    from mrl_tasks.cartpole import CartPole
    from mrl_tasks.cartpole.environment import START_LIMIT, CartPoleEnv

    from mrl_bench.types import TaskBatch

    family = CartPole(control="bang_bang")
    rng = np.random.default_rng(0)
    physics = ("gravity", "cart_mass", "pole_mass", "pole_half_length", "force_magnitude")
    values = [
        param.default * (rng.uniform(0.8, 1.2, num_envs) if name in physics else np.ones(num_envs))
        for name, param in family.params.items()
    ]
    env = CartPoleEnv(
        family, TaskBatch(tuple(family.params), np.stack(values, 1)), 1, torch.device("cpu"), compile=compile
    )
    env.reset(0)
    torch.set_grad_enabled(False)
    generator = torch.Generator().manual_seed(0)
    right = torch.randint(0, 2, (ACTIONS, num_envs, 1, 1), generator=generator)
    actions = cycle((2.0 * right - 1.0).unbind())

    fresh = torch.empty(4, 20 * max(num_envs, 1_000)).uniform_(-START_LIMIT, START_LIMIT, generator=generator)
    used = 0

    def restart(ended: torch.Tensor) -> None:
        """Resets the instances whose episode has ended to the next initial states, as an autoreset would."""
        nonlocal used
        which = ended.view(-1).nonzero().view(-1)
        used = used if used + len(which) <= fresh.shape[1] else 0
        env.state.view(4, -1).index_copy_(1, which, fresh.narrow(1, used, len(which)))
        env.ended.zero_()
        used += len(which)

    def play() -> None:
        step = env.step(next(actions))
        restart(step.terminated | step.failed)

    return play


SINGLE = "gymnasium CartPole-v1, one"
METHODS: dict[str, Callable[[int, int], Play]] = {
    SINGLE: gymnasium_single,
    "gymnasium CartPoleVectorEnv": gymnasium_vector,
    "envpool": envpool,
    "ours, eager": lambda num_envs, threads: ours(num_envs, threads, compile=False),
    "ours, compiled": lambda num_envs, threads: ours(num_envs, threads, compile=True),
}


def measure(num_envs: int, threads: int, patience: float) -> dict[str, Any]:
    """Steps a second of every method, over all instances; None where a peer is not installed."""
    plays: dict[str, Play] = {}
    for name, prepare in METHODS.items():
        try:
            plays[name] = prepare(num_envs, threads)
        except ModuleNotFoundError as error:
            print(f"{name}: {error.name} is not installed", file=sys.stderr)
    for play in plays.values():
        warm_up = 100 if num_envs < 10_000 else 30  # compiles, and spreads the instances over their episodes
        for _ in range(warm_up):
            play()

    slices: dict[str, list[tuple[float, float]]] = {name: [] for name in plays}
    deadline = time.monotonic() + patience
    for _ in range(MOST_ROUNDS):
        for name, play in plays.items():
            wait_for_quiet(deadline)
            slices[name].append(slice_of(play, 1 if name == SINGLE else num_envs))
        if all(len(quiet(taken)) >= ROUNDS for taken in slices.values()):
            break
    return {
        "num_envs": num_envs,
        "threads": threads,
        "steps_per_second": {name: figure(slices[name]) if name in plays else None for name in METHODS},
        "quiet_slices": {name: f"{len(quiet(taken))} of {len(taken)}" for name, taken in slices.items()},
    }


def slice_of(play: Play, num_envs: int) -> tuple[float, float]:
    """Plays for a slice of time: the share of the cores that others took meanwhile, and the steps a second."""
    others, calls, start = Bystanders(), 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < SLICE:
        for _ in range(10 if num_envs < 10_000 else 1):
            play()
            calls += 1
    return others.share(), calls * num_envs / passed


def wait_for_quiet(deadline: float) -> None:
    others = Bystanders()
    while time.monotonic() < deadline:
        time.sleep(SLICE / 2)
        if others.share() < QUIET:
            return


def quiet(slices: list[tuple[float, float]]) -> list[float]:
    return [rate for share, rate in slices if share < QUIET]


def figure(slices: list[tuple[float, float]]) -> float:
    rates = quiet(slices)
    return median(rates if len(rates) >= ROUNDS else [rate for _, rate in slices])


def table(results: list[dict[str, Any]]) -> str:
    """Steps a second, and in brackets those of the compiled environment divided by them."""
    lines = []
    for threads in sorted({result["threads"] for result in results}):
        rows = {r["num_envs"]: r["steps_per_second"] for r in results if r["threads"] == threads}
        lines += ["", f"{threads} thread{'s' * (threads > 1)}".ljust(30) + "".join(f"{n:>22,}" for n in rows)]
        for name in METHODS:
            cells = []
            for rates in rows.values():
                rate, best = rates[name], rates["ours, compiled"]
                cells.append(f"{rate:,.0f} ({best / rate:6.2f})" if rate else "not installed")
            lines.append(name.ljust(30) + "".join(f"{cell:>22}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--threads", type=int, nargs="+", default=THREADS)
    parser.add_argument("--patience", type=float, default=60.0, help="seconds a size may wait for quiet")
    parser.add_argument("--out", type=Path, default=RESULTS)
    # Given to the process that measures one size at one number of threads, and prints it as JSON.
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.sizes[0], args.threads[0], args.patience)))
        return

    results = []
    for threads in args.threads:
        for num_envs in args.sizes:
            options = {"--sizes": num_envs, "--threads": threads, "--patience": args.patience}
            one = [
                sys.executable,
                __file__,
                "--one",
                *(str(word) for pair in options.items() for word in pair),
            ]
            run = subprocess.run(one, env=environment(threads), stdout=subprocess.PIPE, text=True, check=True)
            results.append(json.loads(run.stdout.splitlines()[-1]))
            print(
                f"{threads} threads, {num_envs:,} instances: quiet slices {results[-1]['quiet_slices']}",
                flush=True,
            )
    packages = ("numpy", "torch", "gymnasium", "envpool")
    record = {"machine": describe(packages), "method": __doc__, "slice_s": SLICE, "results": results}
    args.out.write_text(json.dumps(record, indent=2) + "\n")
    print(table(results))


def environment(threads: int) -> dict[str, str]:
    """Of a process that may use this number of threads and imports our packages."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tasks")))
    return os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "PYTHONPATH": path}


if __name__ == "__main__":
    main()
