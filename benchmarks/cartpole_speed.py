"""How many CartPole steps a second, side by side with Gymnasium and EnvPool.

    python benchmarks/cartpole_speed.py            # writes benchmarks/results/cartpole_speed.json

What is compared. Every method plays CartPole-v1 under random bang-bang actions that were drawn beforehand, and every
slot is at work in every step that is counted: an episode lasts some 22 steps, and a slot whose episode has ended
starts anew. The vectorised environments of Gymnasium and EnvPool do that by themselves, in a call of its own, which
is counted as a step although it moves nothing. Ours has no autoreset: `restart` below does it after each step, from
starts that were drawn beforehand too, and its time counts. In ours each slot has its own physics, and wind, friction
and a check for broken numbers; in theirs all share one. Ours computes in float32, Gymnasium in float64.

How. The methods of one size run in a process of their own, in interleaved slices; a figure is the median of the
slices in which others took less than `QUIET` of the cores, or of all slices where too few were that quiet.
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
    actions = cycle(np.random.default_rng(0).integers(0, 2, (ACTIONS, slots)))
    return lambda: env.step(next(actions))


def envpool(slots: int, threads: int) -> Play:
    import numpy as np

    env = import_module("envpool").make(
        "CartPole-v1", env_type="gymnasium", num_envs=slots, num_threads=min(threads, slots)
    )
    env.reset()
    actions = cycle(np.random.default_rng(0).integers(0, 2, (ACTIONS, slots), dtype=np.int32))
    return lambda: env.step(next(actions))


def ours(slots: int, threads: int, compile: bool) -> Play:
    import numpy as np
    import torch
    from mrl_tasks.cartpole import CartPole
    from mrl_tasks.cartpole.environment import START_LIMIT, CartPoleEnv

    from mrl_bench.types import TaskBatch

    family = CartPole(control="bang_bang")
    rng = np.random.default_rng(0)
    physics = ("gravity", "cart_mass", "pole_mass", "pole_half_length", "force_magnitude")
    values = [
        param.default * (rng.uniform(0.8, 1.2, slots) if name in physics else np.ones(slots))
        for name, param in family.params.items()
    ]
    env = CartPoleEnv(
        family, TaskBatch(tuple(family.params), np.stack(values, 1)), 1, torch.device("cpu"), compile=compile
    )
    env.reset(0)
    torch.set_grad_enabled(False)
    generator = torch.Generator().manual_seed(0)
    actions = cycle((2.0 * torch.randint(0, 2, (ACTIONS, slots, 1, 1), generator=generator) - 1.0).unbind())

    fresh = torch.empty(4, 20 * max(slots, 1_000)).uniform_(-START_LIMIT, START_LIMIT, generator=generator)
    used = 0

    def restart(ended: torch.Tensor) -> None:
        """Puts the slots that have ended into the next fresh states, as an autoreset would."""
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
    "ours, eager": lambda slots, threads: ours(slots, threads, compile=False),
    "ours, compiled": lambda slots, threads: ours(slots, threads, compile=True),
}


def measure(slots: int, threads: int, patience: float) -> dict[str, Any]:
    """Slot steps a second of every method at one size, None where a peer is not installed."""
    plays: dict[str, Play] = {}
    for name, prepare in METHODS.items():
        try:
            plays[name] = prepare(slots, threads)
        except ModuleNotFoundError as error:
            print(f"{name}: {error.name} is not installed", file=sys.stderr)
    for play in plays.values():
        for _ in range(100 if slots < 10_000 else 30):  # compiles, and spreads the slots over their episodes
            play()

    slices: dict[str, list[tuple[float, float]]] = {name: [] for name in plays}
    deadline = time.monotonic() + patience
    for _ in range(MOST_ROUNDS):
        for name, play in plays.items():
            wait_for_quiet(deadline)
            slices[name].append(slice_of(play, 1 if name == SINGLE else slots))
        if all(len(quiet(taken)) >= ROUNDS for taken in slices.values()):
            break
    return {
        "slots": slots,
        "threads": threads,
        "steps_per_second": {name: figure(slices[name]) if name in plays else None for name in METHODS},
        "quiet_slices": {name: f"{len(quiet(taken))} of {len(taken)}" for name, taken in slices.items()},
    }


def slice_of(play: Play, slots: int) -> tuple[float, float]:
    """Plays for a slice of time: the share of the cores that others took meanwhile, and the steps a second."""
    others, calls, start = Bystanders(), 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < SLICE:
        for _ in range(10 if slots < 10_000 else 1):
            play()
            calls += 1
    return others.share(), calls * slots / passed


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
        rows = {r["slots"]: r["steps_per_second"] for r in results if r["threads"] == threads}
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
        for slots in args.sizes:
            options = {"--sizes": slots, "--threads": threads, "--patience": args.patience}
            one = [
                sys.executable,
                __file__,
                "--one",
                *(str(word) for pair in options.items() for word in pair),
            ]
            run = subprocess.run(one, env=environment(threads), stdout=subprocess.PIPE, text=True, check=True)
            results.append(json.loads(run.stdout.splitlines()[-1]))
            print(
                f"{threads} threads, {slots:,} slots: quiet slices {results[-1]['quiet_slices']}", flush=True
            )
    packages = ("numpy", "torch", "gymnasium", "envpool")
    record = {"machine": describe(packages), "method": __doc__, "slice_s": SLICE, "results": results}
    args.out.write_text(json.dumps(record, indent=2) + "\n")
    print(table(results))


def environment(threads: int) -> dict[str, str]:
    """For a process that may use so many threads and finds our packages."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tasks")))
    return os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "PYTHONPATH": path}


if __name__ == "__main__":
    main()
