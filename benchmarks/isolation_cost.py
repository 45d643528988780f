"""What isolation costs: the evaluation of a bench's agents, in the harness's process and in processes of their own.

    mrl-bench bench --suite quick
    python benchmarks/isolation_cost.py            # reads runs/quick, writes benchmarks/results/isolation_cost.json

What is compared. For each run of the results folder: its trained weights are evaluated on the test and ood tasks as in
a bench, once by an agent of this process and once by an isolated one (`mrl_bench/runs/isolation`), made anew. The
returns must be equal. Both ways take turns; the figures are medians of seconds on the clock. The start of the process
that isolated agents are forked from, once in each worker, is measured beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from machine import Bystanders, describe

from mrl_bench.protocol.adaptation import evaluate
from mrl_bench.runs.isolation.remote import Isolation, isolation
from mrl_bench.runs.manifest import read_manifest
from mrl_bench.runs.run import Run, make_agent
from mrl_bench.runs.store import Store

RESULTS = Path(__file__).resolve().parent / "results" / "isolation_cost.json"
REPEATS = 5
CPU = torch.device("cpu")


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def evaluation(run: Run, weights: dict[str, torch.Tensor]) -> list[np.ndarray]:
    """The returns of a new agent with these weights on the test and ood tasks."""
    agent = make_agent(run, "cpu")
    agent.load_state_dict(weights)
    splits = [split for split in ("test", "ood") if split in run.scenario.splits]
    return [evaluate(agent, run.played, split, seed=run.seed, device=CPU).returns for split in splits]


def compare(run: Run, weights: dict[str, torch.Tensor], repeats: int) -> dict[str, Any]:
    """Seconds of both ways on one run."""
    taken: dict[str, list[float]] = {"here": [], "isolated": []}
    returns = {}
    for _ in range(repeats):
        for way in taken:
            one = replace(run, isolated=way == "isolated")
            spent, returns[way] = seconds(lambda one=one: evaluation(one, weights))
            taken[way].append(spent)
    if not all(map(np.array_equal, *returns.values())):
        raise SystemExit(f"{run.label}: the returns differ")
    found = {way: median(times) for way, times in taken.items()}
    return {"run": run.label, **found, "ratio": found["isolated"] / found["here"]}


def start() -> float:
    """Seconds until a new isolation has made its first agent."""
    with Isolation() as fresh:
        spent, _ = seconds(lambda: fresh.settings("mrl_agents.maml:Maml", {}))
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="?", default=Path("runs/quick"))
    parser.add_argument("--repeats", type=int, default=REPEATS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    store, manifest = Store(options.results), read_manifest(options.results)
    starts = [start() for _ in range(3)]
    isolation()
    bystanders, rows = Bystanders(), []
    for planned in manifest["runs"]:
        run = Run.from_json(planned)
        row = compare(run, store.weights(planned["train"], "cpu"), options.repeats)
        rows.append(row)
        print(f"{row['run']}: {row['here']:.2f} s here, {row['isolated']:.2f} s isolated, {row['ratio']:.2f}")
    whole = {way: sum(row[way] for row in rows) for way in ("here", "isolated")}
    ratio = whole["isolated"] / whole["here"]
    print(f"all: {whole['here']:.1f} s here, {whole['isolated']:.1f} s isolated, {ratio:.2f}")
    print(f"start: {median(starts):.1f} s")
    found = {
        **describe(["torch", "numpy", "mujoco"]),
        "others": bystanders.share(),
        "repeats": options.repeats,
        "start_s": median(starts),
        "runs": rows,
        "all": {**whole, "ratio": ratio},
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
