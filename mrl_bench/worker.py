"""A process that runs one unit: `python -m mrl_bench.worker`, started by the bench and by nobody else.

The unit comes as a line of JSON on standard input; progress goes out as lines of JSON on standard output. What
the unit's own code prints goes to its log. When the bench dies, standard input ends, and so does this process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from mrl_bench.store import Store
from mrl_bench.unit import Unit, run

_PROGRESS_EVERY = 0.5  # seconds


def main() -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches every process of a terminal; the bench decides
    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_die_with_parent, daemon=True).start()
    store = Store(Path(request["folder"]))
    unit = Unit.from_json(request["unit"])
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    _redirect_output(store.log_path(unit.key("evaluate")))

    import torch

    torch.set_num_threads(1)  # a result must not depend on how many cores a machine has
    last = 0.0

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _PROGRESS_EVERY:
            last = now
            reports.write(json.dumps({"stage": stage, "done": done, "total": total}) + "\n")

    run(unit, store, progress)


def _die_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _redirect_output(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)


if __name__ == "__main__":
    main()
