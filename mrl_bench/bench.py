"""Runs the units of a suite, a few at a time, each in a process of its own, and goes on from what is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from mrl_bench.errors import MrlBenchError
from mrl_bench.results import Evaluation
from mrl_bench.store import Store
from mrl_bench.suite import ANCHORS, AgentSpec, Suite
from mrl_bench.unit import Unit, failure

ATTEMPTS = 2  # a worker that was killed or hung gets one more chance


class Display(Protocol):
    """Is told how far each unit is. Called from several threads."""

    def started(self, unit: Unit) -> None: ...
    def advanced(self, unit: Unit, stage: str, done: int, total: int) -> None: ...
    def finished(self, unit: Unit, evaluation: Evaluation, fresh: bool) -> None: ...


def units_of(suite: Suite, device: str) -> list[Unit]:
    """All units of a suite, the longest first, so that no core waits for a long one that was begun last."""
    units = []
    for entry in suite.entries:
        anchors = [AgentSpec(name, name, {}) for name in ANCHORS]
        units += [Unit(entry.scenario, anchor, 0, device) for anchor in anchors]
        units += [
            Unit(entry.scenario, agent, seed, device) for agent in entry.agents for seed in range(suite.seeds)
        ]
    return sorted(units, key=lambda unit: -_expected_cost(unit))


def _expected_cost(unit: Unit) -> int:
    return 0 if unit.agent.name == "random" else unit.budget


@dataclass
class Bench:
    """One run of a list of units in a folder.

    Results do not depend on `workers`: a unit's batches have a shape of their own, and it uses one thread.
    """

    store: Store
    display: Display
    workers: int
    time_limit: float  # seconds for one attempt at a unit
    _running: set[subprocess.Popen[str]] = field(default_factory=set)
    _stopped: bool = False

    def run(self, units: Sequence[Unit]) -> list[Evaluation]:
        """The results of all units, in their order. Ctrl-C stops the workers and comes through."""
        for unit in units:
            _ = unit.config  # a wrong setting is refused before anything runs
        with ThreadPoolExecutor(self.workers) as pool:
            futures = [pool.submit(self._result, unit) for unit in units]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
                return [future.result() for future in futures]
            except BaseException:
                self._stopped = True
                for future in futures:
                    future.cancel()
                for process in list(self._running):
                    process.kill()
                raise

    def _result(self, unit: Unit) -> Evaluation:
        key = unit.key("evaluate")
        done = self.store.evaluation(key)
        if done:
            self.display.finished(unit, done, fresh=False)
            return done
        self.display.started(unit)
        reason = ""
        for _ in range(ATTEMPTS):
            reason = self._attempt(unit)
            done = self.store.evaluation(key)
            if done or self._stopped:
                break
        if self._stopped:
            raise MrlBenchError("stopped")
        if not done:
            done = failure(unit, reason)
            self.store.put_evaluation(key, done)
        self.display.finished(unit, done, fresh=True)
        return done

    def _attempt(self, unit: Unit) -> str:
        """Runs a worker to its end; returns how it ended, for the case that it left no result."""
        process = subprocess.Popen(
            [sys.executable, "-m", "mrl_bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert process.stdin
        assert process.stdout
        self._running.add(process)
        out_of_time = threading.Event()

        def kill() -> None:
            out_of_time.set()
            process.kill()

        timer = threading.Timer(self.time_limit, kill)
        timer.start()
        try:
            request = {"folder": str(self.store.folder.resolve()), "unit": unit.to_json()}
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                report = json.loads(line)
                self.display.advanced(unit, report["stage"], report["done"], report["total"])
        except (BrokenPipeError, json.JSONDecodeError):
            pass  # it died, before it read or while it wrote; its exit code says how
        finally:
            timer.cancel()
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()
            code = process.wait()
            self._running.discard(process)
        if out_of_time.is_set():
            return f"not finished within {self.time_limit:g} s"
        return (
            f"the worker was killed by signal {-code}" if code < 0 else f"the worker ended with code {code}"
        )


def forget_failed(store: Store, units: Iterable[Unit]) -> None:
    """Removes the results of units that failed, so that they run again."""
    for unit in units:
        done = store.evaluation(unit.key("evaluate"))
        if done and done.error:
            store.forget(unit.key("evaluate"))


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
