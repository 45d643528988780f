"""Executes runs, several at a time. Finished runs are skipped. A backend says where: see `attempt.Backend`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from mrl_bench.errors import MrlBenchError, UsageError, printable
from mrl_bench.results import REFERENCE_AGENTS, Evaluation, TrainingResult
from mrl_bench.runs.attempt import Attempt, Backend, End
from mrl_bench.runs.processes import Processes
from mrl_bench.runs.run import Run, failure, finished, finished_training
from mrl_bench.runs.store import Store, StoreError
from mrl_bench.scenario.references import shipped_references
from mrl_bench.scenario.suite import AgentSpec, Suite

T = TypeVar("T")

VIDEO_TIME_LIMIT = 60.0  # seconds to record the video of a run; a slower one is left out of the report
ATTEMPTS = 2  # a run whose worker was killed or hung is attempted once more
_MOST_STEPS = 10**15  # that a progress report may name


class NotFinished(MrlBenchError):
    """A run has no result, and is not to blame: its code was edited, or its worker was killed from outside."""


class Progress(Protocol):
    """Receives the progress of each run. Its methods are called from several threads."""

    def started(self, run: Run) -> None: ...
    def advanced(
        self, run: Run, stage: str, done: int, total: int, mean_return: float | None = None
    ) -> None: ...
    def finished(self, run: Run, evaluation: Evaluation, fresh: bool) -> None: ...
    def unfinished(self, run: Run, reason: str) -> None: ...


def plan_runs(suite: Suite, device: str, isolated: bool = False, references: bool = True) -> list[Run]:
    """All runs of a suite, scenario by scenario.

    Args:
        suite: its scenarios, agents and seeds.
        device: "cpu" or "cuda".
        isolated: whether its agents, but for the reference agents, live in processes of their own.
        references: whether the reference agents run where no references ship.
    """
    runs = []
    for entry in suite.entries:
        if references and shipped_references(entry.scenario) is None:
            agents = [AgentSpec(name, name, {}) for name in REFERENCE_AGENTS]
            runs += [Run(entry.scenario, agent, 0, device) for agent in agents]
        runs += [
            Run(entry.scenario, agent, seed, device, isolated)
            for agent in entry.agents
            for seed in range(suite.seeds)
        ]
    return runs


@dataclass
class Executor:
    """Executes runs, each in a worker process, and stores their results.

    Results do not depend on `workers` or `backend`: each run has its own batches and uses one thread.
    """

    store: Store
    progress: Progress
    workers: int
    time_limit: float  # seconds for one attempt at a run
    backend: Backend = field(default_factory=Processes)

    def run(self, runs: Sequence[Run]) -> list[Evaluation | NotFinished]:
        """The results of all runs, in their order, or why there is none. Ctrl-C stops all workers.

        Args:
            runs: have passed `check`.

        Raises:
            StoreError: a result cannot be written, or a file of the results folder is damaged.
        """
        return self._each(self._result, runs)

    def train(self, runs: Sequence[Run]) -> list[TrainingResult]:
        """Trains all runs without evaluating them.

        Raises:
            NotFinished: the run is not to blame; the same command starts again.
            MrlBenchError: a training failed, or its result cannot be written.
        """
        return self._each(self._training, runs)

    def record(self, runs: Sequence[Run]) -> None:
        """Records the videos of finished runs. One that fails or exceeds `VIDEO_TIME_LIMIT` is left out."""
        self._each(self._record, runs)

    def _each(self, work: Callable[[Run], T], runs: Sequence[Run]) -> list[T]:
        """Calls `work` for all runs, several at a time. An error in one of them stops all."""
        with ThreadPoolExecutor(self.workers) as pool:
            futures: list[Future[T]] = []
            try:
                futures += [pool.submit(work, run) for run in runs]
                for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                    future.result()
                return [future.result() for future in futures]
            except BaseException:
                for future in futures:
                    future.cancel()
                self.backend.stop()
                raise

    def _result(self, run: Run) -> Evaluation | NotFinished:
        key = run.key("evaluate")
        done = finished(run, self.store)
        if done:
            self.progress.finished(run, done, fresh=False)
            return done
        self.store.forget(key)  # of code that has changed since
        self.progress.started(run)
        done, end = self._attempts(run, "evaluate", lambda: finished(run, self.store))
        if not done and end.excused:
            self.progress.unfinished(run, end.reason)
            return NotFinished(f"{run.label} is not finished: {end.reason}")
        if not done:
            done = failure(run, end.reason)
            self.store.put_evaluation(key, done)
        self.progress.finished(run, done, fresh=True)
        return done

    def _training(self, run: Run) -> TrainingResult:
        done = finished_training(run, self.store)
        if done:
            return done
        self.progress.started(run)
        done, end = self._attempts(run, "train", lambda: finished_training(run, self.store))
        if not done:
            kind = NotFinished if end.excused else MrlBenchError
            raise kind(f"{run.label}: training failed: {end.reason}")
        return done

    def _attempts(self, run: Run, stage: str, result: Callable[[], T | None]) -> tuple[T | None, End]:
        """Starts attempts until there is a result, or no more attempt is left."""
        end = End("")
        for number in range(ATTEMPTS):
            end = self._attempt(run, stage, self.time_limit, appends=number > 0)
            done = result()
            if done or end.final:
                return done, end
        return None, end

    def _record(self, run: Run) -> None:
        try:
            recorded = self.store.video(run.key("evaluate"), run.terms) is not None
        except StoreError:  # a damaged video is recorded again
            recorded = False
        if not recorded:
            with suppress(MrlBenchError):  # such as a family that cannot render
                self._attempt(run, "record", min(self.time_limit, VIDEO_TIME_LIMIT), appends=True)

    def _attempt(self, run: Run, stage: str, time_limit: float, appends: bool) -> End:
        """Executes a stage of a run in a worker process.

        Raises:
            StoreError: neither the worker nor this process can use the results folder.
            MrlBenchError: the backend was stopped.
        """

        def report(line: bytes) -> None:
            with suppress(Exception):  # the run's code can write such lines too
                self.progress.advanced(run, *_progress(json.loads(line)))

        end = self.backend.execute(Attempt.of(run, stage, time_limit, appends), self.store, report)
        if end.blames_store:  # if it is so for this process too, the run is not to blame
            finished_training(run, self.store)
            self.store.require_room()
        return end


def _progress(report: Mapping[str, Any]) -> tuple[str, int, int, float | None]:
    """Stage, steps so far, steps in all and mean return, in a form that can be shown."""
    done, total = (max(0, min(int(report[name]), _MOST_STEPS)) for name in ("done", "total"))
    mean_return = report["return"]
    return printable(report["stage"])[:40], done, total, None if mean_return is None else float(mean_return)


def check(runs: Iterable[Run]) -> None:
    """Checks that all agents can be imported and accept their settings, before anything runs.

    Raises:
        UsageError: the first one that cannot.
    """
    path = sys.path.copy()
    for run in runs:
        try:
            run.key("train")
        except MrlBenchError:
            raise
        except Exception as error:  # third-party code may raise anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise UsageError(f"agent {run.agent.agent!r} cannot be used: {reason}") from error
        finally:
            sys.path[:] = path  # an agent that extends it decides for its own worker alone


def forget_failed(store: Store, runs: Iterable[Run]) -> None:
    """Removes the results of failed runs and damaged ones, so that they run again."""
    for run in runs:
        store.forget_damaged(run.key("train"), run.key("evaluate"), run.terms)
        done = store.evaluation(run.key("evaluate"), run.terms)
        if done and done.error:
            store.forget(run.key("evaluate"))


def pick_device(wanted: str) -> str:
    """ "cpu" or "cuda"; "auto" is "cuda" if there is a GPU.

    Raises:
        MissingPart: "cuda" is wanted and there is no GPU.
    """
    import torch

    from mrl_bench.errors import MissingPart

    if wanted == "cuda" and not torch.cuda.is_available():
        raise MissingPart(
            "no CUDA device: torch finds none (mrl-bench doctor says more); --device cpu runs anywhere"
        )
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted
