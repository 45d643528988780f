"""A process that runs or films one run: `python -m mrl_bench.runs.worker`, started by the bench and by nobody else.

The run comes as a line of JSON on standard input; reports go out as lines of JSON on standard output. What the
run's own code prints goes to standard error, and by way of the bench to its log. When the bench dies, standard
input ends, and so does this process with all that it started.
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
from mrl_bench.runs.run import Progress, Run, execute, train
from mrl_bench.runs.store import Store, StoreError

_PROGRESS_EVERY = 0.5  # seconds
_GRACE = 10.0  # seconds for what the run's code wants to do at the end


def main() -> None:
    request = json.loads(sys.stdin.buffer.readline())
    _end_with_the_bench()
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
            raise UsageError(f"the code of {run.agent.name}, or of what it ran on, was changed meanwhile")
        import torch

        torch.set_num_threads(1)  # a result must not depend on how many cores a machine has
        store = Store(Path(request["folder"]))
        if request["film"]:
            from mrl_bench.runs.video import film

            store.put_film(request["key"], film(run, store.weights(run.key("train"), "cpu")))
        elif request["stage"] == "train":
            _train(run, store, progress)
        else:
            execute(run, store, progress)
        _end_soon()
    except MrlBenchError as error:  # the run's own errors are its result; this is none of them
        report({"stop": str(error)})
        sys.exit(1)


def _train(run: Run, store: Store, progress: Progress) -> None:
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


def _end_with_the_bench() -> None:
    """Leaves a process behind that kills this one, and all others of its group, when standard input ends.

    A thread could not, while the run's code holds the interpreter. The bench made the group, and a parent of
    no one: so the run's code, if it waits for its children, does not wait for this one.
    """
    if first := os.fork():
        os.waitpid(first, 0)
        return
    if os.fork():
        os._exit(0)
    os.closerange(1, 3)  # the bench reads them to their ends
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def _end_soon() -> None:
    """Ends this process even if the run's code left threads behind that go on and on."""
    timer = threading.Timer(_GRACE, os._exit, (0,))
    timer.daemon = True
    timer.start()


def _take_output() -> Callable[[dict[str, Any]], None]:
    """Keeps standard output for reports, and lets all that is printed from now on go to standard error."""
    reports = os.dup(1)
    os.dup2(2, 1)

    def report(values: dict[str, Any]) -> None:
        with suppress(OSError):  # the run's code closed it: no reason to fail
            os.write(reports, json.dumps(values).encode() + b"\n")

    return report


if __name__ == "__main__":
    main()
