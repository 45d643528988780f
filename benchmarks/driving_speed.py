"""How many steps of driving a second on one core, side by side with highway-env and torchdrivesim.

    python -m venv peers && peers/bin/pip install highway-env torchdrivesim   # anywhere; a throwaway environment
    python benchmarks/driving_speed.py --peers peers/bin/python    # writes benchmarks/results/driving_speed.json

What is compared. Ours drives the two-lane highway with six other cars, 20 control steps a second of five physics
steps each, every slot with physics of its own (friction, mass, brakes, wind...), actions drawn beforehand, and a
reset after every 100 steps, or once nobody is left, whose time counts; steps of slots that had ended do not.

highway-env drives with continuous actions, as it comes (`highway-v0`, 50 cars, 15 physics steps a policy step), and in
its fastest configuration that has as many cars as ours (`highway-fast-v0`, six cars, two lanes, one physics step a
policy step; its car is kinematic, without tyres). It has no batches, so its figure is that of one environment at every
size.

torchdrivesim has batches. Its `Simulator` moves our car and six others at 20 steps a second, one physics step each;
counted are the step, the collisions of our car (by discs, its default) and the others as our car sees them. Its cars
are kinematic, the six go straight on, nothing is drawn, and neither road nor reward is computed. A reset after every
100 steps. It needs numpy below 2, and so an environment of its own.

metadrive-simulator is left out: at its first reset it downloads assets from GitHub, and fails where it cannot.

How. Each method of a size runs in a process of its own with one thread, in slices by turns with the others; a figure
is the median of its slices in which others took less than `QUIET` of the cores, or of all where too few were.
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

Play = Callable[[], int]  # one call: one step of every slot, and how many lived


def ours(slots: int, traffic: int) -> Play:
    import numpy as np
    import torch
    from mrl_tasks.driving import Driving
    from mrl_tasks.driving.environment import DrivingEnv

    from mrl_bench.types import TaskBatch

    torch.set_num_threads(1)
    family = Driving(road="highway", traffic=traffic, horizon=100)
    rng, params = np.random.default_rng(0), family.params.values()
    spread = [np.ones(slots) if p.values else rng.uniform(0.8, 1.2, slots) for p in params]
    values = np.stack([p.default * factor for p, factor in zip(params, spread, strict=True)], 1)
    env = DrivingEnv(family, TaskBatch(tuple(family.params), values), 1, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    actions = torch.empty(64, slots, 1, 2).uniform_(-0.1, 0.1, generator=generator)
    given, count = cycle(actions.unbind()), 0
    env.reset(0)

    def play() -> int:
        nonlocal count
        count += 1
        living = slots - int(env.step(next(given)).terminated.sum())
        if count % 100 == 0 or not living:
            env.reset(count)
        return living

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


def torchdrivesim(slots: int) -> Play:
    from importlib import import_module

    torch: Any = import_module("torch")
    kinematic: Any = import_module("torchdrivesim.kinematic")
    mesh: Any = import_module("torchdrivesim.mesh")
    rendering: Any = import_module("torchdrivesim.rendering.base")
    simulator: Any = import_module("torchdrivesim.simulator")
    torch.set_num_threads(1)
    cars = torch.arange(7)  # ours is the first
    state = torch.zeros(slots, 7, 4)  # x, y, orientation, speed
    state[..., 0], state[..., 1], state[..., 3] = 25.0 * cars, 3.5 * (cars % 2), 10.0
    model = kinematic.KinematicBicycle(dt=0.05)
    model.set_params(lr=torch.full((slots, 7), 1.4))
    model.set_state(state)
    every = simulator.Simulator(
        road_mesh=mesh.BirdviewMesh.empty(batch_size=slots),
        kinematic_model={"car": model},
        agent_size={"car": torch.tensor([4.8, 2.0]).expand(slots, 7, 2)},
        initial_present_mask={"car": torch.ones(slots, 7, dtype=torch.bool)},
        cfg=simulator.TorchDriveConfig(renderer=rendering.DummyRendererConfig()),
    )
    first = simulator.NPCWrapper(every, {"car": cars > 0})
    actions = cycle(torch.empty(64, slots, 1, 2).uniform_(-0.1, 0.1).unbind())
    present, count = first.copy(), 0

    def play() -> int:
        nonlocal present, count
        count += 1
        present.step({"car": next(actions)})
        present.compute_collision()
        present.get_all_agents_relative()
        if count % 100 == 0:
            present = first.copy()
        return slots

    return play


OURS: dict[str, Callable[[int], Play]] = {
    "ours, six cars": lambda slots: ours(slots, 6),
    "ours, alone": lambda slots: ours(slots, 0),
}
PEERS: dict[str, Callable[[int], Play]] = {
    "highway-env, as it comes": lambda slots: highway(fastest=False),
    "highway-env, fastest": lambda slots: highway(fastest=True),
    "torchdrivesim": torchdrivesim,
}


def serve(method: str, slots: int) -> None:
    """Plays a slice for each line of the input, and prints the slot steps a second of it."""
    play = (OURS | PEERS)[method](slots)
    for _ in range(3):
        play()
    print("ready", flush=True)
    for _ in sys.stdin:
        steps, start = 0, time.perf_counter()
        while (passed := time.perf_counter() - start) < SLICE:
            steps += play()
        print(steps / passed, flush=True)


def measure(slots: int, interpreters: dict[str, str]) -> dict[str, Any]:
    from machine import Bystanders

    path = os.pathsep.join(map(str, (ROOT, ROOT / "tasks")))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": path}
    players = {
        name: subprocess.Popen(
            [interpreter, "-W", "ignore", __file__, "--serve", name, "--sizes", str(slots)],
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
        "slots": slots,
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
    for slots in args.sizes:
        results.append(measure(slots, interpreters))
        rates = results[-1]["steps_per_second"]
        print(
            f"{slots:>6,} slots: " + ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items()),
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
