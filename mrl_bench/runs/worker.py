"""A worker process: executes one run, or records its video. The executor starts it.

`python -m mrl_bench.runs.worker` reads the run as a line of JSON from standard input, and writes reports as lines of
JSON to standard output: progress, or why there is no result ("refused": the run is not the planned one; "store": the
results folder; "error": anything else). The run's code could write such lines too, so they decide about this run alone.
Output of the run's own code goes to standard error, which the executor copies to the run's log. When the executor dies,
standard input ends; then this process and its children are killed.
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
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mrl_bench.errors import MrlBenchError
from mrl_bench.runs.code import Code, CodeChanged, Imports, code_of
from mrl_bench.runs.run import Run, execute, train
from mrl_bench.runs.store import Store, StoreError

_PROGRESS_EVERY = 0.5  # seconds
_GRACE = 10.0  # seconds for the exit handlers of the run's code
_REPORTS: dict[type[Exception], str] = {
    CodeChanged: "refused",
    StoreError: "store",
}  # errors of the harness; all others are the run's own


def main() -> None:
    imports = Imports()
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
        run = _planned_run(request)
        import torch

        torch.set_num_threads(1)  # a result must not depend on how many cores a machine has
        store = Store(Path(request["folder"]))

        def unplanned() -> dict[str, str]:
            return imports.unplanned(run.code, run.import_root)

        unplanned()  # the agent has just been imported: edits from now on do not reach this run
        if request["stage"] == "record":
            from mrl_bench.runs.video import load_agent, record

            agent = load_agent(run, store.weights(run.key("train"), "cpu"))
            store.put_video(request["key"], record(run, agent))
        elif request["stage"] == "train":
            train(run, store, progress, unplanned)
        else:
            execute(run, store, progress, unplanned)
    except Exception as error:
        kind = _REPORTS.get(type(error), "error")
        if kind == "error":
            traceback.print_exc()
        report({kind: str(error) if kind != "error" else f"{type(error).__name__}: {error}"})
        sys.exit(1)
    finally:
        _end_soon()


def _planned_run(request: Mapping[str, Any]) -> Run:
    """The run that the executor has planned.

    Raises:
        CodeChanged: its scenario or its code is another one now.
    """
    code_of(*request["modules"]).require(Code(**request["code"]))  # before any of it is imported
    try:
        run = Run.from_json(request["run"])
    except (MrlBenchError, OSError) as error:
        raise CodeChanged(str(error)) from error
    if run.key("evaluate") != request["key"]:
        raise CodeChanged("its settings have changed since it was planned")
    return run


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
    timer = threading.Timer(_GRACE, os._exit, (1,))
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
