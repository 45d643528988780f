"""What a bench costs: env steps, and seconds where runs of the results folder or of the suite were timed before.

The suites that ship have measured costs in `scenarios/suites/costs.json`; `python -m tools.write_costs` makes it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import mean
from threading import Lock

from mrl_bench.errors import MrlBenchError
from mrl_bench.runs.manifest import read_manifest
from mrl_bench.runs.run import Run, finished
from mrl_bench.runs.store import Store, StoreError
from mrl_bench.scenario.suite import Suite, suites_dir


def duration(seconds: float) -> str:
    """4.5 s, 45 s, 3 min 12 s, 2 h 05 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


@dataclass(frozen=True)
class Measured:
    """Core-seconds of one run of each (scenario, agent), without periodic evaluations, and where they were measured."""

    seconds: Mapping[tuple[str, str], float]
    where: str  # machine and day

    @staticmethod
    def of_suite(suite: Suite) -> Measured | None:
        """The measured costs of a suite that ships; None if they were not measured."""
        path = suites_dir() / "costs.json"
        ships = suite.path.resolve().parent == suites_dir().resolve() and path.is_file()
        found = json.loads(path.read_bytes()).get(suite.id) if ships else None
        if not (found and found["runs"]):
            return None
        seconds = {(row["scenario"], row["agent"]): float(row["seconds"]) for row in found["runs"]}
        return Measured(seconds, found["where"])

    def of(self, runs: Iterable[Run]) -> float:
        """Core-seconds of runs; those that were not measured count as the mean of the others."""
        usual = mean(self.seconds.values())
        return sum(self.seconds.get((run.scenario.id, run.agent.name), usual) for run in runs)


@dataclass(frozen=True)
class Cost:
    """The expected cost of the runs that are not finished."""

    runs: int
    finished: int
    env_steps: int  # of meta-training, at most
    weights: Mapping[str, float]  # label of an unfinished run -> its share of the work: seconds, or env steps
    seconds: float | None  # None where no such run was timed before

    @staticmethod
    def of(runs: Sequence[Run], store: Store, workers: int, measured: Measured | None = None) -> Cost:
        """Args: measured: the usual costs of these runs, for those that the results folder has no time of."""
        left = [run for run in runs if finished(run, store) is None]
        timed = {**(measured.seconds if measured else {}), **seconds_per_run(store)}
        weights = weigh(left, timed)
        slowest = max(weights.values(), default=0.0)
        seconds = max(sum(weights.values()) / workers, slowest) if timed else None
        steps = sum(run.planned_env_steps for run in left)
        return Cost(len(runs), len(runs) - len(left), steps, weights, seconds)

    def in_order(self, runs: Sequence[Run]) -> list[Run]:
        """The shortest run first, so that a result shows soon; then the longest, so that none of them ends last."""
        first = min(self.weights, key=lambda label: self.weights[label], default=None)
        return sorted(runs, key=lambda run: (run.label != first, -self.weights.get(run.label, 0.0)))

    def __str__(self) -> str:
        finished = f" ({self.finished} finished)" if self.finished else ""
        took = "" if self.seconds is None else f", about {duration(self.seconds)}"
        plural = "s" * (self.runs != 1)
        return (
            f"{self.runs} run{plural}{finished}, at most {self.env_steps:,} env steps of meta-training{took}"
        )


def weigh(runs: Sequence[Run], timed: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Label -> expected cost of a run: seconds if some were timed, of others as the mean of those; else env steps."""
    if not timed:
        return {run.label: float(run.planned_env_steps) for run in runs}
    usual = mean(timed.values())
    return {run.label: timed.get((run.scenario.id, run.agent.name), usual) for run in runs}


def seconds_per_run(store: Store) -> dict[tuple[str, str], float]:
    """(scenario, agent) -> mean seconds of the runs that the folder's manifest lists."""
    try:
        entries = read_manifest(store.folder)["runs"]
    except MrlBenchError:  # a new folder
        return {}
    found: dict[tuple[str, str], list[float]] = {}
    for entry in entries:
        with suppress(StoreError):  # a damaged time: the report says so
            stages = [store.seconds(entry["train"]), store.seconds(entry["evaluate"])]
            if None not in stages:
                of = entry["terms"]["scenario"], entry["terms"]["agent"]
                found.setdefault(of, []).append(sum(s for s in stages if s is not None))
    return {key: mean(seconds) for key, seconds in found.items()}


class TimeLeft:
    """Estimates the time until all runs are finished, from the share of the work that is done. Thread-safe."""

    def __init__(self, cost: Cost) -> None:
        self._weights, self._lock = cost.weights, Lock()
        self._total = sum(cost.weights.values())
        self._shares: dict[str, float] = {}  # label -> share of the run that is done, 0 to 1
        self._begun = time.monotonic()

    def advanced(self, label: str, share: float) -> None:
        with self._lock:
            self._shares[label] = max(min(share, 1.0), self._shares.get(label, 0.0))

    def seconds(self) -> float | None:
        """None before any work is done."""
        with self._lock:
            done = sum(self._weights.get(label, 0.0) * share for label, share in self._shares.items())
        if done <= 0:
            return None
        return (time.monotonic() - self._begun) * max(self._total - done, 0.0) / done

    def __str__(self) -> str:
        seconds = self.seconds()
        return "" if seconds is None else f"{duration(seconds)} left in total"
