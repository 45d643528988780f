"""How many steps of driving a second on one core, side by side with highway-env and torchdrivesim.

    python -m venv peers && peers/bin/pip install highway-env torchdrivesim   # anywhere; a throwaway environment
    python benchmarks/driving_speed.py --peers peers/bin/python    # writes benchmarks/results/driving_speed.json

What is compared. Ours drives the two-lane highway with six other cars, at 20 control steps a second of five physics
steps each. Every environment instance has its own physics (friction, mass, brakes, wind...); actions are drawn
beforehand. All instances are reset after 100 steps, or once every episode has ended, and the time of the reset counts.
Steps of instances whose episode has ended do not count.

highway-env drives with continuous actions, as it comes (`highway-v0`, 50 cars, 15 physics steps a policy step), and in
its fastest configuration that has as many cars as ours (`highway-fast-v0`, six cars, two lanes, one physics step a
policy step; its car is kinematic, without tyres). It has no batches, so its figure is that of one environment at every
size.

torchdrivesim has batches. Its `Simulator` moves our car and six others at 20 steps a second, one physics step each;
counted are the step, the collisions of our car (by discs, its default) and the others as our car sees them. Its cars
are kinematic, the six go straight on, nothing is drawn, and neither road nor reward is computed. A reset after every
100 steps. It needs numpy below 2, hence the separate environment.

metadrive-simulator is left out: at its first reset it downloads assets from GitHub, and fails where it cannot.

How. Each method of a size runs in a separate process with one thread, and the methods take turns in slices of time. A
figure is the median of the slices in which other processes took less than `QUIET` of the cores, or of all slices if too
few were that quiet.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "driving_speed.json"
SIZES = (1, 16, 256, 4_096)
SLICE = 1.0  # [s]
ROUNDS = 5
QUIET = 0.05
PEER_PACKAGES = ("highway-env", "torchdrivesim", "gymnasium", "numpy", "torch")

Play = Callable[[], int]  # one call: one step of every instance; returns how many had not ended


def ours(num_envs: int, traffic: int) -> Play:
    import numpy as np
    import torch
    from mrl_tasks.driving import Driving
    from mrl_tasks.driving.environment import DrivingEnv

    from mrl_bench.types import TaskBatch

    torch.set_num_threads(1)
    family = Driving(road="highway", traffic=traffic, horizon=100)
    rng, params = np.random.default_rng(0), family.params.values()
    spread = [np.ones(num_envs) if p.values else rng.uniform(0.8, 1.2, num_envs) for p in params]
    values = np.stack([p.default * factor for p, factor in zip(params, spread, strict=True)], 1)
    env = DrivingEnv(family, TaskBatch(tuple(family.params), values), 1, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    actions = torch.empty(64, num_envs, 1, 2).uniform_(-0.1, 0.1, generator=generator)
    given, count = cycle(actions.unbind()), 0
    env.reset(0)

    def play() -> int:
        nonlocal count
        count += 1
        active = num_envs - int(env.step(next(given)).terminated.sum())
        if count % 100 == 0 or not active:
            env.reset(count)
        return active

    return play


def highway(fastest: bool) -> Play:
    from importlib import import_module

    gymnasium = import_module("gymnasium")
    import_module("highway_env")
    config: dict[str, Any] = {"action": {"type": "ContinuousAction"}}
    if fastest:
        config |= {
            "simulation_frequency": 5,
            "policy_frequency": 5,
            "vehicles_count": 6,
            "lanes_count": 2,
            "observation": {"type": "Kinematics", "vehicles_count": 7},
        }
    env = gymnasium.make("highway-fast-v0" if fastest else "highway-v0", config=config)
    env.reset(seed=0)

    def play() -> int:
        _, _, terminated, truncated, _ = env.step((0.0, 0.0))  # straight on, at the speed it has
        if terminated or truncated:
            env.reset()
        return 1

    return play


def torchdrivesim(num_envs: int) -> Play:
    from importlib import import_module

    torch: Any = import_module("torch")
    kinematic: Any = import_module("torchdrivesim.kinematic")
    mesh: Any = import_module("torchdrivesim.mesh")
    rendering: Any = import_module("torchdrivesim.rendering.base")
    simulator: Any = import_module("torchdrivesim.simulator")
    torch.set_num_threads(1)
    cars = torch.arange(7)  # ours is the first
    state = torch.zeros(num_envs, 7, 4)  # x, y, orientation, speed
    state[..., 0], state[..., 1], state[..., 3] = 25.0 * cars, 3.5 * (cars % 2), 10.0
    model = kinematic.KinematicBicycle(dt=0.05)
    model.set_params(lr=torch.full((num_envs, 7), 1.4))
    model.set_state(state)
    every = simulator.Simulator(
        road_mesh=mesh.BirdviewMesh.empty(batch_size=num_envs),
        kinematic_model={"car": model},
        agent_size={"car": torch.tensor([4.8, 2.0]).expand(num_envs, 7, 2)},
        initial_present_mask={"car": torch.ones(num_envs, 7, dtype=torch.bool)},
        cfg=simulator.TorchDriveConfig(renderer=rendering.DummyRendererConfig()),
    )
    first = simulator.NPCWrapper(every, {"car": cars > 0})
    actions = cycle(torch.empty(64, num_envs, 1, 2).uniform_(-0.1, 0.1).unbind())
    present, count = first.copy(), 0

    def play() -> int:
        nonlocal present, count
        count += 1
        present.step({"car": next(actions)})
        present.compute_collision()
        present.get_all_agents_relative()
        if count % 100 == 0:
            present = first.copy()
        return num_envs

    return play


OURS: dict[str, Callable[[int], Play]] = {
    "ours, six cars": lambda num_envs: ours(num_envs, 6),
    "ours, alone": lambda num_envs: ours(num_envs, 0),
}
PEERS: dict[str, Callable[[int], Play]] = {
    "highway-env, as it comes": lambda num_envs: highway(fastest=False),
    "highway-env, fastest": lambda num_envs: highway(fastest=True),
    "torchdrivesim": torchdrivesim,
}


def serve(method: str, num_envs: int) -> None:
    """Plays a slice for each line of the input, and prints its steps a second, over all instances."""
    play = (OURS | PEERS)[method](num_envs)
    for _ in range(3):
        play()
    print("ready", flush=True)
    for _ in sys.stdin:
        steps, start = 0, time.perf_counter()
        while (passed := time.perf_counter() - start) < SLICE:
            steps += play()
        print(steps / passed, flush=True)


def measure(num_envs: int, interpreters: dict[str, str]) -> dict[str, Any]:
    from machine import Bystanders

    path = os.pathsep.join(map(str, (ROOT, ROOT / "tasks")))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": path}
    players = {
        name: subprocess.Popen(
            [interpreter, "-W", "ignore", __file__, "--serve", name, "--sizes", str(num_envs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for name, interpreter in interpreters.items()
    }
    slices: dict[str, list[tuple[float, float]]] = {name: [] for name in players}
    for player in players.values():
        assert player.stdout is not None
        player.stdout.readline()
    for _ in range(ROUNDS):
        for name, player in players.items():
            assert player.stdin is not None
            assert player.stdout is not None
            others = Bystanders()
            player.stdin.write("play\n")
            player.stdin.flush()
            rate = float(player.stdout.readline())
            # The player is a bystander too, and takes one core.
            slices[name].append((others.share() - 1.0 / len(os.sched_getaffinity(0)), rate))
    for player in players.values():
        player.communicate()
    return {
        "num_envs": num_envs,
        "steps_per_second": {name: figure(taken) for name, taken in slices.items()},
        "quiet_slices": {name: sum(share < QUIET for share, _ in taken) for name, taken in slices.items()},
    }


def figure(slices: list[tuple[float, float]]) -> float:
    rates = [rate for share, rate in slices if share < QUIET]
    return median(rates if len(rates) > ROUNDS // 2 else [rate for _, rate in slices])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--peers", help="Python interpreter of an environment that has the peers")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--serve", choices=OURS | PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--versions", action="store_true", help="of the peers, where this runs, as JSON")
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.sizes[0])
        return
    from machine import describe

    if args.versions:
        print(json.dumps(describe(PEER_PACKAGES)["packages"]))
        return
    interpreters, versions = dict.fromkeys(OURS, sys.executable), None
    if args.peers:
        interpreters |= dict.fromkeys(PEERS, args.peers)
        versions = json.loads(subprocess.check_output([args.peers, __file__, "--versions"]))
    results = []
    for num_envs in args.sizes:
        results.append(measure(num_envs, interpreters))
        rates = results[-1]["steps_per_second"]
        print(
            f"{num_envs:>6,} instances: " + ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items()),
            flush=True,
        )
    record = {
        "machine": describe(("numpy", "torch")),
        "peers": versions,
        "method": __doc__,
        "slice_s": SLICE,
        "results": results,
    }
    args.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
