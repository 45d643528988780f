"""Runs the runs of a suite, a few at a time, each in a process of its own, and goes on from what is there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Thread
from typing import IO, Protocol, TypeVar

from mrl_bench.errors import MrlBenchError, UsageError
from mrl_bench.results import Evaluation, TrainingResult
from mrl_bench.runs.run import Run, failure
from mrl_bench.runs.store import Store
from mrl_bench.scenario.suite import REFERENCE_AGENTS, AgentSpec, Suite

T = TypeVar("T")

FILM_LIMIT = 60.0  # seconds to film a run in: pictures that take longer are not worth the wait
ATTEMPTS = 2  # a worker that was killed or hung gets one more chance
LOG_HEAD, LOG_TAIL = (
    2**20,
    2**16,
)  # bytes of what an attempt prints that its log keeps: the beginning and the end
_STRAY = 5.0  # seconds to wait for the last output of a worker whose child escaped


class Display(Protocol):
    """Is told how far each run is. Called from several threads."""

    def started(self, run: Run) -> None: ...
    def advanced(
        self, run: Run, stage: str, done: int, total: int, mean_return: float | None = None
    ) -> None: ...
    def finished(self, run: Run, evaluation: Evaluation, fresh: bool) -> None: ...


def plan_runs(suite: Suite, device: str) -> list[Run]:
    """All runs of a suite, the longest first, so that no core waits for a long one that was begun last."""
    runs = []
    for entry in suite.entries:
        anchors = [AgentSpec(name, name, {}) for name in REFERENCE_AGENTS]
        runs += [Run(entry.scenario, anchor, 0, device) for anchor in anchors]
        runs += [
            Run(entry.scenario, agent, seed, device) for agent in entry.agents for seed in range(suite.seeds)
        ]
    return sorted(runs, key=lambda run: -_expected_cost(run))


def _expected_cost(run: Run) -> int:
    return 0 if run.agent.name == "random" else run.budget


@dataclass
class Bench:
    """One run of a list of runs in a folder.

    Results do not depend on `workers`: a run's batches have a shape of their own, and it uses one thread.
    """

    store: Store
    display: Display
    workers: int
    time_limit: float  # seconds for one attempt at a run
    _running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _stopped: bool = False
    _lock: Lock = field(default_factory=Lock)  # of the two above

    def run(self, runs: Sequence[Run]) -> list[Evaluation]:
        """The results of all runs, which have passed `check`, in their order. Ctrl-C stops all workers.

        Raises:
            MrlBenchError: it makes no sense to go on, as when a result cannot be written.
        """
        return self._each(self._result, runs)

    def train(self, runs: Sequence[Run]) -> list[TrainingResult]:
        """Trains all runs without evaluating them.

        Raises:
            MrlBenchError: a training failed, or its result cannot be written.
        """
        return self._each(self._training, runs)

    def film(self, runs: Sequence[Run]) -> None:
        """Films runs that are finished and not filmed yet; one that cannot be, or not in time, goes without."""
        self._each(self._film, runs)

    def _each(self, work: Callable[[Run], T], runs: Sequence[Run]) -> list[T]:
        """Does the work of all runs, so many at a time; what ends one of them early ends them all."""
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

    def _result(self, run: Run) -> Evaluation:
        key = run.key("evaluate")
        done = self.store.evaluation(key)
        if done:
            self.display.finished(run, done, fresh=False)
            return done
        self.display.started(run)
        reason = ""
        for attempt in range(ATTEMPTS):
            reason = self._attempt(run, key, "ab" if attempt else "wb")
            done = self.store.evaluation(key)
            if done:
                break
        if not done:
            done = failure(run, reason)
            self.store.put_evaluation(key, done)
        self.display.finished(run, done, fresh=True)
        return done

    def _training(self, run: Run) -> TrainingResult:
        reason = ""
        for attempt in range(ATTEMPTS):
            done = self.store.trained(run.key("train"))
            if done:
                return done
            if not attempt:
                self.display.started(run)
            reason = self._attempt(run, run.key("evaluate"), "ab" if attempt else "wb", stage="train")
        done = self.store.trained(run.key("train"))
        if not done:
            raise MrlBenchError(f"{run.label}: training failed: {reason}")
        return done

    def _film(self, run: Run) -> None:
        key = run.key("evaluate")
        if self.store.film(key) is None:
            with suppress(MrlBenchError):  # as where a family draws no pictures
                self._attempt(run, key, "ab", film=True)

    def _attempt(self, run: Run, key: str, log_mode: str, film: bool = False, stage: str = "evaluate") -> str:
        """Runs a worker to its end; returns how it ended, for the case that it left no result.

        Raises:
            MrlBenchError: it ended for a reason that is not the run's, or because this bench was stopped.
        """
        with self._lock:
            if self._stopped:
                raise MrlBenchError("stopped")
            process = _start_worker()
            self._running.add(process)
        assert process.stdin
        folder = str(self.store.folder.resolve())
        request = {"folder": folder, "run": run.to_json(), "key": key, "film": film, "stage": stage}
        time_limit = min(self.time_limit, FILM_LIMIT) if film else self.time_limit
        refusals: list[str] = []
        readers = [
            Thread(target=self._follow, args=(run, process.stdout, refusals), daemon=True),
            Thread(
                target=_keep_output, args=(process.stderr, self.store.log_path(key), log_mode), daemon=True
            ),
        ]
        in_time = True
        try:
            for reader in readers:
                reader.start()
            with suppress(BrokenPipeError):  # it died already: its exit code says how
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
            process.wait(time_limit)
        except subprocess.TimeoutExpired:
            in_time = False
        finally:
            with self._lock:
                self._running.discard(process)
                _kill(process)  # if it has ended, then what it started and left behind
        code = process.wait()
        for reader in readers:
            reader.join(_STRAY)
        with suppress(BrokenPipeError):
            process.stdin.close()
        if self._stopped:
            raise MrlBenchError("stopped")
        if refusals:
            raise MrlBenchError(f"{run.label}: {refusals[0]}")
        if not in_time:
            return f"not finished within {time_limit:g} s"
        return (
            f"the worker was killed by signal {-code}" if code < 0 else f"the worker ended with code {code}"
        )

    def _follow(self, run: Run, reports: IO[bytes], refusals: list[str]) -> None:
        """Shows what a worker reports, and notes why it refused to work if it did."""
        with reports:
            while line := reports.readline(2**16):
                with suppress(ValueError, KeyError, TypeError, OSError):  # the run's code can write here too
                    report = json.loads(line)
                    if "stop" in report:
                        refusals.append(str(report["stop"]))
                    else:
                        self.display.advanced(
                            run,
                            str(report["stage"]),
                            int(report["done"]),
                            int(report["total"]),
                            None if report["return"] is None else float(report["return"]),
                        )


def _start_worker() -> subprocess.Popen[bytes]:
    """A worker in a process group of its own, so that what it starts can be ended with it."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "mrl_bench.runs.worker"],  # -P: a module finds here what it finds there
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=os.environ
        | {
            "OMP_NUM_THREADS": "1",
            "PYTHONHASHSEED": "0",  # the order of a set of strings must not decide a result
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        },
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kills a worker and all of its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _keep_output(output: IO[bytes], log: Path, mode: str) -> None:
    """Copies what a run prints to its log: no more than its beginning and its end, or it could fill the disk."""
    with output:
        with suppress(OSError):  # without a log the run goes on all the same
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
    """Refuses agents that cannot be imported and settings that do not fit, before anything runs.

    Raises:
        UsageError: the first of them.
    """
    for run in runs:
        try:
            run.key("train")
        except MrlBenchError:
            raise
        except Exception as error:  # the agent's module is anyone's code
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise UsageError(f"agent {run.agent.agent!r} cannot be used: {reason}") from error


def forget_failed(store: Store, runs: Iterable[Run]) -> None:
    """Removes the results of runs that failed, so that they run again."""
    for run in runs:
        done = store.evaluation(run.key("evaluate"))
        if done and done.error:
            store.forget(run.key("evaluate"))


def pick_device(wanted: str) -> str:
    """ "cpu" or "cuda"; "auto" is the GPU where there is one.

    Raises:
        MissingPart: "cuda" was asked for and there is none.
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
