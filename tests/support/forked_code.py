"""Code that is executed in a process of its own, forked from one that has imported torch."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import suppress
from typing import IO

from mrl_bench.errors import ContractError
from mrl_bench.runs.fork_server import Worker


def execute(code: str, timeout: float = 100) -> subprocess.CompletedProcess[str]:
    """Executes code as `python -c` does, in a process that has imported torch.

    Raises:
        TimeoutExpired: it has not ended; it is killed.
    """
    process, texts = Worker(code), {"out": "", "err": ""}
    process.stdin.close()

    def read(name: str, stream: IO[bytes]) -> None:
        with stream:
            texts[name] = stream.read().decode(errors="replace")

    streams = (("out", process.stdout), ("err", process.stderr))
    readers = [threading.Thread(target=read, args=stream, daemon=True) for stream in streams]
    for reader in readers:
        reader.start()
    try:
        status = process.wait(timeout)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for reader in readers:
            reader.join()
    return subprocess.CompletedProcess(["forked"], status, texts["out"], texts["err"])


def execute_lines(*lines: str) -> list[str]:
    """As `mrl_bench.checks.new_process.execute`."""
    done = execute("\n".join(lines))
    if done.returncode:
        raise ContractError(f"in a new interpreter: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return done.stdout.split()
