"""What isolation costs: the evaluation of a bench's agents, in the harness's process and in processes of their own.

    mrl-bench bench --suite quick
    python benchmarks/isolation_cost.py            # reads runs/quick, writes benchmarks/results/isolation_cost.json

What is compared. All runs of the results folder are evaluated on the test and ood tasks with their trained weights, as
in a bench: by a worker process for each core, the longest run first. Once the agents live in the workers, and once in
processes of their own (`mrl_bench/runs/isolation`). The returns must be equal. Both ways take turns; the figures are
medians of seconds on the clock, for the whole and for each run. The start of the process that isolated agents are
forked from, once in each worker, is not part of it and is measured beside it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from machine import Bystanders, describe

from mrl_bench.protocol.adaptation import evaluate
from mrl_bench.runs.isolation.remote import Isolation, isolation
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


Played = tuple[float, list[np.ndarray]]  # seconds, and the returns on each split


def in_workers(jobs: Sequence[Job], workers: int) -> tuple[float, list[Played]]:
    """Seconds for the evaluation of all jobs by so many processes, and what came of each."""
    with multiprocessing.get_context("fork").Pool(workers, _ready) as pool:
        pool.map(time.sleep, [1.0] * workers, chunksize=1)  # all are ready
        return seconds(lambda: pool.map(_evaluate, jobs, chunksize=1))


def _ready() -> None:
    torch.set_num_threads(1)
    torch.optim.Adam([torch.zeros(1)])  # the first optimiser imports a compiler
    isolation().settings("mrl_agents.maml:Maml", {})


def _evaluate(job: Job) -> Played:
    weights = Store(job.folder).weights(job.key, "cpu")
    return seconds(lambda: evaluation(job.run, weights))


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
    planned = read_manifest(options.results)["runs"]
    jobs = {
        way: [
            Job(replace(Run.from_json(run), isolated=way == "isolated"), options.results, run["train"])
            for run in planned
        ]
        for way in WAYS
    }
    whole = {way: list[float]() for way in WAYS}
    single = {way: list[list[float]]() for way in WAYS}
    bystanders, order = Bystanders(), list(range(len(planned)))
    for turn in range(options.repeats + 1):
        returns = {}
        for way in WAYS:
            spent, played = in_workers([jobs[way][place] for place in order], options.workers)
            taken = dict(zip(order, played, strict=True))
            returns[way] = [taken[place][1] for place in range(len(planned))]
            if turn:
                whole[way].append(spent)
                single[way].append([taken[place][0] for place in range(len(planned))])
                print(f"{way}: {spent:.1f} s", flush=True)
        # The longest first, as the turn that does not count measured them.
        order.sort(key=lambda place: -taken[place][0])
        pairs = zip(chain(*returns["here"]), chain(*returns["isolated"]), strict=True)
        if not all(np.array_equal(one, other) for one, other in pairs):
            raise SystemExit("the returns differ")
    rows = []
    for place, job in enumerate(jobs["here"]):
        here, isolated = (median(turn[place] for turn in single[way]) for way in WAYS)
        rows.append({"run": job.run.label, "here": here, "isolated": isolated, "ratio": isolated / here})
        print(f"{job.run.label}: {here:.2f} s here, {isolated:.2f} s isolated, {isolated / here:.2f}")
    here, isolated = (median(whole[way]) for way in WAYS)
    print(
        f"all, {options.workers} workers: {here:.1f} s here, {isolated:.1f} s isolated, {isolated / here:.2f}"
    )
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
