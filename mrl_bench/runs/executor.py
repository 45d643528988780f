"""Executes runs in worker processes, several at a time. Finished runs are skipped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock, Thread
from typing import IO, Any, Protocol, TypeVar

from mrl_bench.errors import MrlBenchError, UsageError, printable
from mrl_bench.results import REFERENCE_AGENTS, Evaluation, TrainingResult
from mrl_bench.runs.fork_server import Worker
from mrl_bench.runs.run import Run, failure, finished, finished_training
from mrl_bench.runs.store import Store, StoreError
from mrl_bench.scenario.references import shipped_references
from mrl_bench.scenario.suite import AgentSpec, Suite

T = TypeVar("T")

VIDEO_TIME_LIMIT = 60.0  # seconds to record the video of a run; a slower one is left out of the report
ATTEMPTS = 2  # a run whose worker was killed or hung is attempted once more
LOG_HEAD, LOG_TAIL = 2**20, 2**16  # bytes that a log keeps of an attempt's output: beginning and end
_STRAY = 5.0  # seconds to wait for the last output of a worker whose child left the process group
_KILLED_FROM_OUTSIDE = {signal.SIGHUP, signal.SIGKILL, signal.SIGTERM}  # such as by a system without memory
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


def plan_runs(suite: Suite, device: str, isolated: bool = False) -> list[Run]:
    """All runs of a suite, scenario by scenario. The reference agents run where no references ship.

    Args:
        suite: its scenarios, agents and seeds.
        device: "cpu" or "cuda".
        isolated: whether its agents, but for the reference agents, live in processes of their own.
    """
    runs = []
    for entry in suite.entries:
        if shipped_references(entry.scenario) is None:
            references = [AgentSpec(name, name, {}) for name in REFERENCE_AGENTS]
            runs += [Run(entry.scenario, agent, 0, device) for agent in references]
        runs += [
            Run(entry.scenario, agent, seed, device, isolated)
            for agent in entry.agents
            for seed in range(suite.seeds)
        ]
    return runs


@dataclass(frozen=True)
class _End:
    """How a worker ended, for the case that it left no result."""

    reason: str
    excused: bool = False  # whether the run is not to blame
    final: bool = False  # whether a second attempt would end in the same way


@dataclass
class ProcessExecutor:
    """Executes runs, each in a worker process, and stores their results.

    Results do not depend on `workers`: each run has its own batches and uses one thread.
    """

    store: Store
    progress: Progress
    workers: int
    time_limit: float  # seconds for one attempt at a run
    _running: set[Worker] = field(default_factory=set)
    _stopped: bool = False
    _lock: Lock = field(default_factory=Lock)  # of the two above

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
                with self._lock:
                    self._stopped = True
                    for process in self._running:
                        _kill(process)
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

    def _attempts(self, run: Run, stage: str, result: Callable[[], T | None]) -> tuple[T | None, _End]:
        """Runs workers until there is a result, or no more attempt is left."""
        end = _End("")
        for attempt in range(ATTEMPTS):
            end = self._attempt(run, run.key("evaluate"), "ab" if attempt else "wb", stage)
            done = result()
            if done or end.final:
                return done, end
        return None, end

    def _record(self, run: Run) -> None:
        key = run.key("evaluate")
        try:
            recorded = self.store.video(key, run.terms) is not None
        except StoreError:  # a damaged video is recorded again
            recorded = False
        if not recorded:
            with suppress(MrlBenchError):  # such as a family that cannot render
                self._attempt(run, key, "ab", "record")

    def _attempt(self, run: Run, key: str, log_mode: str, stage: str) -> _End:
        """Runs a worker until it ends.

        Raises:
            StoreError: neither the worker nor this process can use the results folder.
            MrlBenchError: this executor was stopped.
        """
        with self._lock:
            if self._stopped:
                raise MrlBenchError("stopped")
            process = Worker()
            self._running.add(process)
        assert process.stdin
        folder = str(self.store.folder.resolve())
        planned = {"run": run.to_json(), "modules": run.modules, "code": asdict(run.code), "key": key}
        request = {"folder": folder, "stage": stage, **planned}
        time_limit = min(self.time_limit, VIDEO_TIME_LIMIT) if stage == "record" else self.time_limit
        said: dict[str, str] = {}
        readers = [
            Thread(target=self._follow, args=(run, process.stdout, said), daemon=True),
            Thread(
                target=_keep_output, args=(process.stderr, self.store.log_path(key), log_mode), daemon=True
            ),
        ]
        in_time = True
        try:
            for reader in readers:
                reader.start()
            with suppress(BrokenPipeError):  # it has died already; its exit code follows
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
            process.wait(time_limit)
        except subprocess.TimeoutExpired:
            in_time = False
        finally:
            with self._lock:
                self._running.discard(process)
                _kill(process)  # if it has ended, its children
        code = process.wait()
        for reader in readers:
            reader.join(_STRAY)
        with suppress(BrokenPipeError):
            process.stdin.close()
        if self._stopped:
            raise MrlBenchError("stopped")
        return self._end(run, said, code) if in_time else _End(f"not finished within {self.time_limit:g} s")

    def _end(self, run: Run, said: Mapping[str, str], code: int) -> _End:
        """How a worker ended that has said this and exited with this code.

        What it says may come from the run's code, so it concerns this run alone.
        """
        if "refused" in said:
            return _End(said["refused"], excused=True, final=True)
        if "store" in said:  # if it is so for this process too, the run is not to blame
            finished_training(run, self.store)
            self.store.require_room()
        if said:
            return _End(next(iter(said.values())), final=True)
        if code < 0:
            return _End(f"the worker was killed by signal {-code}", excused=-code in _KILLED_FROM_OUTSIDE)
        return _End(f"the worker ended with code {code}")

    def _follow(self, run: Run, reports: IO[bytes], said: dict[str, str]) -> None:
        """Forwards the progress that a worker reports, and collects in `said` why it has no result."""
        with reports:
            while line := reports.readline(2**16):
                with suppress(Exception):  # the run's code can write here too
                    report = json.loads(line)
                    if "stage" in report:
                        self.progress.advanced(run, *_progress(report))
                    said |= {
                        kind: printable(" ".join(report[kind].split()))
                        for kind in ("refused", "store", "error")
                        if kind in report
                    }


def _progress(report: Mapping[str, Any]) -> tuple[str, int, int, float | None]:
    """Stage, steps so far, steps in all and mean return, in a form that can be shown."""
    done, total = (max(0, min(int(report[name]), _MOST_STEPS)) for name in ("done", "total"))
    mean_return = report["return"]
    return printable(report["stage"])[:40], done, total, None if mean_return is None else float(mean_return)


def _kill(process: Worker) -> None:
    """Kills a worker and its process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _keep_output(output: IO[bytes], log: Path, mode: str) -> None:
    """Copies a run's output to its log; of a long output only the beginning and the end, to spare the disk."""
    with output:
        with suppress(OSError):  # the run continues without a log
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open(mode, buffering=0) as file:
                room, tail, left_out = LOG_HEAD, b"", 0
                while piece := output.read1(2**16):  # type: ignore[attr-defined]
                    file.write(piece[:room])
                    tail += piece[room:]
                    room -= min(room, len(piece))
                    left_out += max(len(tail) - LOG_TAIL, 0)
                    tail = tail[-LOG_TAIL:]
                if left_out:
                    file.write(b"\n[%d bytes left out]\n" % left_out)
                file.write(tail)
        while output.read1(2**16):  # type: ignore[attr-defined]
            pass


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
