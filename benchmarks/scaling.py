"""What a bench costs on many workers, and what the files of a leaderboard cost with many submissions.

    python benchmarks/scaling.py                   # writes benchmarks/results/scaling.json
    python benchmarks/scaling.py schedule          # one part: costs, schedule or leaderboard; the others are kept

costs. Core-seconds of one run of each agent on one scenario of each family, with the settings of the suite `core`, from
a run with a share of its work: MAML with a part of its budget, MBML and MAML-MBML with one of their rounds and its env
steps. Training counts as many times as the share says, evaluation once; periodic evaluations are left out. Other
scenarios of a family are assumed to cost as much per env step of the agent's plan; on another robot the difference of
the simulators' times is added (`locomotion_speed.json`, two threads). Reference agents are left out: they ship.

schedule. Simulated: every worker takes the next run, the shortest first and then the longest (`Cost.in_order`). Workers
fail at random moments with a mean time between failures, exponentially distributed, lose the run, and are back after a
while. A run that was lost is tried once more at once (`executor.ATTEMPTS`), then left to the next bench.

leaderboard. A folder with small submissions that differ in their author (one scenario, one seed): processor seconds to
add one, to read the log, to check all (which hashes every file, as `list` does), and to rank all.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import cache, partial
from heapq import heappop, heappush
from io import StringIO
from itertools import count
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from machine import describe

from mrl_bench.cli.main import main
from mrl_bench.leaderboard.folder import Leaderboard
from mrl_bench.results import canonical_json
from mrl_bench.runs.executor import ATTEMPTS, plan_runs
from mrl_bench.runs.run import Run, execute, train
from mrl_bench.runs.store import Store
from mrl_bench.scenario.suite import AgentSpec, find_suite

FOLDER = Path(__file__).resolve().parent / "results"
RESULTS = FOLDER / "scaling.json"

# -- costs --------------------------------------------------------------------------------------------------------

MEASURED_ON = {
    "cartpole": "cartpole-target-v1",
    "locomotion": "cheetah-dir-v1",
    "driving": "drive-lane-v1",
}
MEASURED_ROBOT = "half_cheetah"
SUITES = ("core", "standard")
BUDGET_SHARE = 10  # MAML trains for one part in so many of its budget


def measure_costs() -> dict[str, Any]:
    whole = [
        run
        for run in plan_runs(find_suite("core"), "cpu")
        if run.seed == 0 and run.scenario.id in MEASURED_ON.values()
    ]
    torch.set_num_threads(1)
    rows = []
    for run in whole:
        part, times = _share(run)
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder))
            train_seconds = _processor_seconds(partial(train, part, store, _ignore))
            evaluate_seconds = _processor_seconds(partial(execute, part, store, _ignore))
            files = store.weights_path(part.key("train")), store.episodes_path(part.key("evaluate"))
            size = sum(path.stat().st_size for path in files)
        rows.append(
            {
                "family": run.scenario.family_name,
                "agent": run.agent.name,
                "env_steps": run.planned_env_steps,
                "train_seconds": round(train_seconds * times, 1),
                "evaluate_seconds": round(evaluate_seconds, 1),
                "submitted_bytes": size,  # weights and actions; the returns come on top
            }
        )
        print(rows[-1], flush=True)
    return {"machine": describe(("torch", "numpy", "mujoco")), "runs": rows}


def _ignore(*progress: object) -> None:
    pass


def _processor_seconds(work: Callable[[], Any]) -> float:
    """Processor seconds of this process, which others on the machine disturb less than time on the clock."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _share(run: Run) -> tuple[Run, int]:
    """A run with a part of a run's work, and how many of them are the whole."""
    config = run.config
    if run.agent.name == "maml":
        scenario, times, settings = run.scenario, BUDGET_SHARE, dict[str, Any]()
    else:
        inner = config if run.agent.name == "mbml" else config.mbml
        scenario, times = run.scenario, inner.rounds
        settings = {"env_steps": inner.env_steps // times, "rounds": 1}
        if run.agent.name == "maml-mbml":
            settings = {"env_steps": config.env_steps // times, "mbml": settings}
    budget = replace(scenario.budget, meta_train=scenario.budget.meta_train // times)
    agent = AgentSpec(run.agent.name, run.agent.agent, _merged(run.agent.settings, settings))
    return Run(scenario.with_overrides(budget, scenario.protocol), agent, run.seed, run.device), times


def seconds_of(run: Run, costs: Mapping[str, Any]) -> float:
    """Expected core-seconds of a run of any suite."""
    family, robot = run.scenario.family_name, run.scenario.options.get("robot", "")
    (row,) = (r for r in costs["runs"] if (r["family"], r["agent"]) == (family, run.agent.name))
    per_step = row["train_seconds"] / row["env_steps"] + _simulating(robot) - _simulating(MEASURED_ROBOT)
    return float(per_step * run.planned_env_steps + row["evaluate_seconds"])


@cache
def _simulating(robot: str) -> float:
    """Core-seconds of one env step of a robot; the same for all scenarios that have none."""
    speed = json.loads((FOLDER / "locomotion_speed.json").read_bytes())
    per_second = {row["robot"]: row["steps_per_second"]["ours"] for row in speed["results"]}
    return float(speed["threads"] / per_second[robot or MEASURED_ROBOT])


def core_hours(costs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a suite costs, by agent."""
    rows = []
    for suite in SUITES:
        seconds = defaultdict[str, list[float]](list)
        for run in _planned(suite):
            seconds[run.agent.name].append(seconds_of(run, costs))
        seconds["all"] = [each for one in seconds.values() for each in one]
        rows += [
            {
                "suite": suite,
                "agent": agent,
                "runs": len(each),
                "core_hours": round(sum(each) / 3600, 1),
                "longest_run_hours": round(max(each) / 3600, 2),
            }
            for agent, each in seconds.items()
        ]
    return rows


def _planned(suite: str) -> list[Run]:
    """The runs of a suite once the references of all its scenarios ship."""
    return [run for run in plan_runs(find_suite(suite), "cpu") if not run.is_reference]


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _merged(one.get(name, {}), other[name])
        if isinstance(other.get(name), Mapping)
        else other.get(name, value)
        for name, value in {**one, **other}.items()
    }


# -- schedule -----------------------------------------------------------------------------------------------------

WORKERS = (100, 1000)
HOURS_BETWEEN_FAILURES = (None, 24 * 7, 24, 6)  # of one worker, on average
BACK_AFTER = 600.0  # seconds until a worker that failed can work again
SIMULATIONS = 200


def simulate_schedules(costs: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for suite in SUITES:
        seconds = sorted((seconds_of(run, costs) for run in _planned(suite)), reverse=True)
        in_order = seconds[-1:] + seconds[:-1]
        for workers in WORKERS:
            for hours in HOURS_BETWEEN_FAILURES:
                found = [
                    simulate(in_order, workers, hours and hours * 3600.0, np.random.default_rng(seed))
                    for seed in range(SIMULATIONS if hours else 1)
                ]
                last, lost, left = (mean(each) for each in zip(*found, strict=True))
                rows.append(
                    {
                        "suite": suite,
                        "workers": workers,
                        "hours_between_failures": hours,
                        "hours": round(last / 3600, 2),
                        "busy_share": round(sum(seconds) / workers / last, 3),
                        "lost_attempts": round(lost, 2),
                        "unfinished_runs": round(left, 3),
                    }
                )
    return rows


def simulate(
    seconds: Sequence[float], workers: int, between_failures: float | None, rng: np.random.Generator
) -> tuple[float, int, int]:
    """Seconds until the last run ends, attempts that were lost, and runs that are not finished after the last."""
    waiting = deque((each, 1) for each in seconds)  # with the number of the attempt
    idle, now, last, lost, left = workers, 0.0, 0.0, 0, 0
    numbers, events = count(), list[tuple[float, int, str, tuple[float, int]]]()  # time, number, what, run

    def expect(when: float, what: str, run: tuple[float, int]) -> None:
        heappush(events, (when, next(numbers), what, run))

    while True:
        while idle and waiting:
            run, idle = waiting.popleft(), idle - 1
            fails_after = rng.exponential(between_failures) if between_failures else np.inf
            if fails_after < run[0]:
                expect(now + fails_after, "failed", run)
            else:
                expect(now + run[0], "done", run)
        if not events:
            return last, lost, left
        now, _, what, run = heappop(events)
        if what == "failed":
            lost, last = lost + 1, now
            expect(now + BACK_AFTER, "back", run)
            if run[1] < ATTEMPTS:
                waiting.appendleft((run[0], run[1] + 1))
            else:
                left += 1
        else:
            idle += 1
            if what == "done":
                last = now


# -- leaderboard --------------------------------------------------------------------------------------------------

COUNTS = (100, 300, 1000)
LAST_ADDS = 20  # over which the time of one is averaged
SCENARIO = """\
id: small-v1
doc: A cart of unknown force.
family: cartpole
horizon: 12
params: {force_magnitude: {uniform: [20, 60]}}
splits: {test: {count: 3, seed: 1}}
budget: {meta_train: 300, blind: 3000, oracle: 3000}
protocol: {k: [0, 2], episodes_per_round: 2, scored_episodes: 3}
"""
SUITE = """\
id: small
doc: A small suite.
seeds: 1
agents: {}
scenarios: [{scenario: small-v1.yaml}]
"""


def measure_leaderboard() -> dict[str, Any]:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "small-v1.yaml").write_text(SCENARIO)
        (root / "small.yaml").write_text(SUITE)
        suite, leaderboard = root / "small.yaml", Leaderboard(root / "leaderboard")
        _mrl_bench("reference", root / "small-v1.yaml", "--seeds", 3, "--out", root / "references-runs")
        small = ("--set", "meta_batch_size=2", "--set", "episodes_per_task=2", "--workers", 1)
        places = ("--out", root / "runs", "--submissions", root / "made")
        _mrl_bench("score", "maml", "--suite", suite, *small, *places)
        (submission,) = (root / "made").iterdir()
        seconds = list[float]()
        for number in range(1, max(COUNTS) + 1):
            copy = _by(f"author {number}", submission, root / "new")
            seconds.append(_processor_seconds(partial(leaderboard.add, copy, suite)))
            if number in COUNTS:
                rows.append(
                    {
                        "submissions": number,
                        "log_bytes": (leaderboard.folder / "log.jsonl").stat().st_size,
                        "add_seconds": round(mean(seconds[-LAST_ADDS:]), 4),
                        "read_log_seconds": round(_processor_seconds(leaderboard.listed), 4),
                        "check_seconds": round(_processor_seconds(leaderboard.check), 3),
                        "rank_seconds": round(_processor_seconds(partial(_rank, leaderboard, suite)), 2),
                        **_site(leaderboard, suite, root / "site"),
                    }
                )
                print(rows[-1], flush=True)
        size = sum(path.stat().st_size for path in submission.rglob("*") if path.is_file())
    return {"machine": describe(("numpy",)), "submission_bytes": size, "sizes": rows}


def _rank(leaderboard: Leaderboard, suite: Path) -> None:
    _mrl_bench("leaderboard", "rank", "--suite", suite, "--folder", leaderboard.folder)


def _site(leaderboard: Leaderboard, suite: Path, out: Path) -> dict[str, Any]:
    """On the clock, as the site is written by several processes."""
    began = time.perf_counter()
    _mrl_bench("leaderboard", "site", "--suite", suite, "--folder", leaderboard.folder, "--out", out)
    seconds = round(time.perf_counter() - began, 2)
    return {"site_seconds": seconds, "front_page_bytes": (out / "index.html").stat().st_size}


def _mrl_bench(*arguments: object) -> None:
    errors = StringIO()
    with redirect_stdout(StringIO()), redirect_stderr(errors):
        code = main([*map(str, arguments)])
    if code not in (0, 1):  # 1: the references have no certificate
        raise RuntimeError(errors.getvalue())


def _by(author: str, submission: Path, copy: Path) -> Path:
    """A copy with another author, which is another submission."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(submission, copy)
    data = json.loads((copy / "submission.json").read_bytes())
    data["agent"]["author"] = author
    (copy / "submission.json").write_bytes(canonical_json(data))
    return copy


# -- all ----------------------------------------------------------------------------------------------------------


def measure() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=("costs", "schedule", "leaderboard"))
    wanted = parser.parse_args().part
    record = json.loads(RESULTS.read_bytes()) if RESULTS.is_file() else {}
    if wanted in (None, "costs"):
        record["costs"] = measure_costs()
    if wanted in (None, "leaderboard"):
        record["leaderboard"] = measure_leaderboard()
    record["core_hours"] = core_hours(record["costs"])
    record["schedule"] = simulate_schedules(record["costs"])
    for row in (*record["core_hours"], *record["schedule"]):
        print(row)
    RESULTS.write_text(json.dumps({"method": __doc__, **record}, indent=2) + "\n")


if __name__ == "__main__":
    measure()
