"""What isolation costs: the evaluation of a bench's agents, in the harness's process and in processes of their own.

    mrl-bench bench --suite quick
    python benchmarks/isolation_cost.py            # reads runs/quick, writes benchmarks/results/isolation_cost.json

What is compared. For each run of the results folder: its trained weights are evaluated on the test and ood tasks as in
a bench, by an agent of the worker's process and by an isolated one (`mrl_bench/runs/isolation`), in turns. A worker for
each core does so at the same time, as in a bench. The returns must be equal; the figures are medians of seconds on the
clock. The start of the process that isolated agents are forked from, once in a bench, is measured beside it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from machine import Bystanders, describe

from mrl_bench.protocol.adaptation import evaluate
from mrl_bench.runs.isolation.remote import Isolation
from mrl_bench.runs.manifest import read_manifest
from mrl_bench.runs.provenance import cores
from mrl_bench.runs.run import Run, make_agent
from mrl_bench.runs.store import Store

RESULTS = Path(__file__).resolve().parent / "results" / "isolation_cost.json"
REPEATS = 5
WAYS = ("here", "isolated")
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


class Job(NamedTuple):
    run: Run
    folder: Path  # of the results
    key: str  # of its training there
    repeats: int


def compare(job: Job) -> dict[str, Any]:
    """Seconds of both ways on one run."""
    weights = Store(job.folder).weights(job.key, "cpu")
    taken, returns = {way: list[float]() for way in WAYS}, {}
    for turn in range(job.repeats + 1):
        for way in WAYS:
            one = replace(job.run, isolated=way == "isolated")
            spent, returns[way] = seconds(lambda one=one: evaluation(one, weights))
            if turn:  # the first one imports the agent
                taken[way].append(spent)
    if not all(map(np.array_equal, *returns.values())):
        raise SystemExit(f"{job.run.label}: the returns differ")
    found = {way: median(times) for way, times in taken.items()}
    ratio = found["isolated"] / found["here"]
    print(
        f"{job.run.label}: {found['here']:.2f} s here, {found['isolated']:.2f} s isolated, {ratio:.2f}",
        flush=True,
    )
    return {"run": job.run.label, **found, "ratio": ratio}


def ready() -> None:
    torch.set_num_threads(1)
    torch.optim.Adam([torch.zeros(1)])  # the first optimiser imports a compiler


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
    parser.add_argument("--workers", type=int, default=cores())
    options = parser.parse_args()
    starts = [start() for _ in range(3)]
    jobs = [
        Job(Run.from_json(run), options.results, run["train"], options.repeats)
        for run in read_manifest(options.results)["runs"]
    ]
    bystanders = Bystanders()
    with multiprocessing.get_context("fork").Pool(options.workers, ready) as pool:
        rows = pool.map(compare, jobs, chunksize=1)
    here, isolated = (sum(row[way] for row in rows) for way in WAYS)
    print(f"all: {here:.1f} s here, {isolated:.1f} s isolated, {isolated / here:.2f}")
    print(f"start: {median(starts):.1f} s")
    found = {
        **describe(["torch", "numpy", "mujoco"]),
        "others": bystanders.share(),
        "repeats": options.repeats,
        "workers": options.workers,
        "start_s": median(starts),
        "runs": rows,
        "all": {"here": here, "isolated": isolated, "ratio": isolated / here},
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
