"""What a bench costs: env steps, and seconds where earlier runs of the results folder were timed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import mean
from threading import Lock

from mrl_bench.errors import MrlBenchError
from mrl_bench.runs.manifest import read_manifest
from mrl_bench.runs.run import Run, finished
from mrl_bench.runs.store import Store, StoreError


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
class Cost:
    """The expected cost of the runs that are not finished."""

    runs: int
    finished: int
    env_steps: int  # of meta-training, at most
    weights: Mapping[str, float]  # label of an unfinished run -> its share of the work: seconds, or env steps
    seconds: float | None  # None where no earlier run of the folder was timed

    @staticmethod
    def of(runs: Sequence[Run], store: Store, workers: int) -> Cost:
        left = [run for run in runs if finished(run, store) is None]
        timed = _seconds_per_run(store)
        weights: dict[str, float]
        if timed:
            usual = mean(timed.values())
            weights = {run.label: timed.get((run.scenario.id, run.agent.name), usual) for run in left}
        else:
            weights = {run.label: float(run.planned_env_steps) for run in left}
        slowest = max(weights.values(), default=0.0)
        seconds = max(sum(weights.values()) / workers, slowest) if timed else None
        steps = sum(run.planned_env_steps for run in left)
        return Cost(len(runs), len(runs) - len(left), steps, weights, seconds)

    def __str__(self) -> str:
        finished = f" ({self.finished} finished)" if self.finished else ""
        took = "" if self.seconds is None else f", about {duration(self.seconds)}"
        plural = "s" * (self.runs != 1)
        return (
            f"{self.runs} run{plural}{finished}, at most {self.env_steps:,} env steps of meta-training{took}"
        )


def _seconds_per_run(store: Store) -> dict[tuple[str, str], float]:
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
