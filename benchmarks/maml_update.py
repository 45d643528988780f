"""The cost of a MAML update: tasks one after another in a loop, or all at once by `vmap`.

    python benchmarks/maml_update.py               # writes benchmarks/results/maml_update.json

What is compared. The same code on the same made-up data, with `LOOP_FROM_SAMPLES` set so that `over_tasks` loops
always or never: one adaptation of all tasks (baseline, advantages, one inner step), one outer update by PPO (5 epochs,
each with a second-order gradient) and one by TRPO (gradient, 11 curvature products, line search). The policy is the
default one, 2 x 64. Every episode is full, so a task has episodes x steps samples.

How. Both ways take turns, and each update starts from the same weights. On a CPU torch has one thread, and the figure
is the median of the processor time, which the load of others disturbs less than time on the clock. On a GPU, if there
is one, it is the median of the time on the clock, with the device synchronised.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from machine import Bystanders, describe
from mrl_agents import maml
from mrl_agents.maml import Maml, MamlConfig

from mrl_bench.types import EnvSpec, Rollout

RESULTS = Path(__file__).resolve().parent / "results" / "maml_update.json"
REPEATS = 7
WAYS = {"loop": 0, "vmap": math.inf}  # values of LOOP_FROM_SAMPLES


class Size(NamedTuple):
    tasks: int
    episodes: int
    steps: int
    obs: int = 4  # of CartPole
    act: int = 1


SIZES = (
    Size(80, 1, 30),
    Size(80, 1, 200),
    Size(20, 10, 30),
    Size(20, 10, 100),
    Size(20, 10, 150),
    Size(20, 10, 200),
    Size(40, 20, 100, obs=20, act=6),  # of a locomotion task
)


def updates(size: Size, device: torch.device) -> dict[str, Callable[[], Any]]:
    """The three updates, on data of this size."""
    spec = EnvSpec(size.obs, size.act, size.steps, dt=0.02)
    agents = {outer: Maml(spec, MamlConfig(outer_update=outer), 0, device) for outer in ("ppo", "trpo")}
    agent, rng = agents["ppo"], torch.Generator(device).manual_seed(0)
    weights = {name: tensor.clone() for name, tensor in agent.state_dict().items()}

    def rollout() -> Rollout:
        shape = (size.tasks, size.episodes, size.steps)
        valid = torch.ones(shape, device=device)
        return Rollout(
            obs=torch.randn(*shape[:2], size.steps + 1, size.obs, generator=rng, device=device),
            action=torch.randn(*shape, size.act, generator=rng, device=device),
            reward=torch.randn(shape, generator=rng, device=device),
            terminated=torch.zeros_like(valid, dtype=torch.bool),
            mask=valid,
            failed=torch.zeros(shape[:2], dtype=torch.bool, device=device),
        )

    data, initial = rollout(), agent.initial_state(size.tasks)
    state = agent.adapt(initial, (), data, rng)
    before, after = agent.batch(initial, data), agent.batch(state, rollout())

    def adapt() -> None:
        agent.adapt(initial, (), data, rng)

    def ppo() -> None:
        agent.load_state_dict(weights)
        agent._outer_ppo([before], after, torch.optim.Adam(agent.theta.values(), lr=agent.config.outer_lr))

    def trpo() -> None:
        agents["trpo"].load_state_dict(weights)
        agents["trpo"]._outer_trpo([before], after, state)

    return {"adapt": adapt, "ppo": ppo, "trpo": trpo}


def milliseconds(update: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cpu":
        start = time.process_time()
        update()
        return 1e3 * (time.process_time() - start)
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    update()
    torch.cuda.synchronize(device)
    return 1e3 * (time.perf_counter() - start)


def measure(size: Size, device: torch.device, repeats: int) -> dict[str, Any]:
    """Median milliseconds of every update in both ways."""
    times: dict[str, dict[str, list[float]]] = {}
    others = Bystanders()
    for _ in range(repeats):
        for name, update in updates(size, device).items():
            for way, threshold in WAYS.items():
                maml.LOOP_FROM_SAMPLES[device.type] = threshold
                times.setdefault(name, {}).setdefault(way, []).append(milliseconds(update, device))
    return {
        **size._asdict(),
        "samples_of_a_task": size.episodes * size.steps,
        "device": device.type,
        "milliseconds": {
            name: {way: round(median(taken), 2) for way, taken in ways.items()}
            for name, ways in times.items()
        },
        "others_share_of_cores": round(others.share(), 2),
    }


def row(result: dict[str, Any]) -> str:
    size = "{tasks} x {episodes} x {steps}, obs {obs}, act {act}".format(**result)
    cells = [
        f"{name} {ways['loop']:9.1f} {ways['vmap']:9.1f} ({ways['loop'] / ways['vmap']:4.2f})"
        for name, ways in result["milliseconds"].items()
    ]
    return f"{result['device']:5}{size:34}" + "   ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()

    torch.set_num_threads(1)
    record = {"machine": describe(("torch", "numpy")), "method": __doc__, "repeats": args.repeats}
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        record["gpu"] = torch.cuda.get_device_name()
        devices.append(torch.device("cuda"))
    else:
        record["gpu"] = "not measured on GPU"
        print(record["gpu"])
    print("median milliseconds by loop and by vmap, and in brackets loop / vmap")
    results = []
    for device in devices:
        for size in SIZES:
            results.append(measure(size, device, args.repeats))
            print(row(results[-1]), flush=True)
    args.out.write_text(json.dumps(record | {"results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
