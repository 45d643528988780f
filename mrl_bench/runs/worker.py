"""A worker process: executes one run, or records its video. The executor starts it.

`python -m mrl_bench.runs.worker` reads the run as a line of JSON from standard input, and writes reports as lines of
JSON to standard output. Output of the run's own code goes to standard error, which the executor copies to the run's
log. When the executor dies, standard input ends; then this process and its children are killed.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mrl_bench.errors import MrlBenchError, UsageError
from mrl_bench.runs.run import ReportProgress, Run, execute, train
from mrl_bench.runs.store import Store, StoreError

_PROGRESS_EVERY = 0.5  # seconds
_GRACE = 10.0  # seconds for the exit handlers of the run's code


def main() -> None:
    request = json.loads(sys.stdin.buffer.readline())
    _end_with_the_executor()
    report = _take_output()
    faulthandler.enable()
    last = 0.0

    def progress(stage: str, done: int, total: int, mean_return: float | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _PROGRESS_EVERY:
            last = now
            report({"stage": stage, "done": done, "total": total, "return": mean_return})

    try:
        run = Run.from_json(request["run"])
        if run.key("evaluate") != request["key"]:
            raise UsageError(
                f"the code of {run.agent.name}, of its family or of the harness has changed meanwhile"
            )
        import torch

        torch.set_num_threads(1)  # a result must not depend on how many cores a machine has
        store = Store(Path(request["folder"]))
        if request["record"]:
            from mrl_bench.runs.video import record

            store.put_video(request["key"], record(run, store.weights(run.key("train"), "cpu")))
        elif request["stage"] == "train":
            _train(run, store, progress)
        else:
            execute(run, store, progress)
        _end_soon()
    except MrlBenchError as error:  # errors of the run itself are its result; this is another one
        report({"stop": str(error)})
        sys.exit(1)


def _train(run: Run, store: Store, progress: ReportProgress) -> None:
    """Trains a run without evaluating it.

    Raises:
        MrlBenchError: the agent or the simulation raised an error.
    """
    try:
        train(run, store, progress)
    except StoreError:
        raise
    except Exception as error:
        traceback.print_exc()
        raise MrlBenchError(f"training failed: {type(error).__name__}: {error}") from error


def _end_with_the_executor() -> None:
    """Forks a process that kills this process group when standard input ends.

    A thread could not do so while the run's code holds the interpreter lock. The process is forked twice, so that it
    is no child of this one: the run's code may wait for its children.
    """
    if first := os.fork():
        os.waitpid(first, 0)
        return
    if os.fork():
        os._exit(0)
    os.closerange(1, 3)  # the executor reads them to their ends
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def _end_soon() -> None:
    """Ends this process even if the run's code left threads that do not end."""
    timer = threading.Timer(_GRACE, os._exit, (0,))
    timer.daemon = True
    timer.start()


def _take_output() -> Callable[[dict[str, Any]], None]:
    """Reserves standard output for reports, and redirects what is printed from now on to standard error."""
    reports = os.dup(1)
    os.dup2(2, 1)

    def report(values: dict[str, Any]) -> None:
        with suppress(OSError):  # the run's code closed it
            os.write(reports, json.dumps(values).encode() + b"\n")

    return report


if __name__ == "__main__":
    main()
