"""Executes attempts in worker processes on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock, Thread
from typing import IO

from mrl_bench.errors import ContractError, MrlBenchError, printable
from mrl_bench.runs.attempt import Attempt, End
from mrl_bench.runs.fork_server import Worker
from mrl_bench.runs.provenance import cores
from mrl_bench.runs.store import Store

LOG_HEAD, LOG_TAIL = 2**20, 2**16  # bytes that a log keeps of an attempt's output: beginning and end
_STRAY = 5.0  # seconds to wait for the last output of a worker whose child left the process group
_KILLED_FROM_OUTSIDE = {signal.SIGHUP, signal.SIGKILL, signal.SIGTERM}  # such as by a system without memory


@dataclass
class Processes:
    """Worker processes on this machine, one for each attempt."""

    _running: set[Worker] = field(default_factory=set)
    _stopped: bool = False
    _lock: Lock = field(default_factory=Lock)  # of the two above

    @property
    def cores(self) -> int:
        return cores()

    def execute(self, attempt: Attempt, store: Store, report: Callable[[bytes], None]) -> End:
        with self._lock:
            if self._stopped:
                raise MrlBenchError("stopped")
            process = _worker(attempt)
            self._running.add(process)
        assert process.stdin
        request = asdict(attempt) | {"folder": str(store.folder.resolve())}
        said: dict[str, str] = {}
        log = store.log_path(attempt.key), "ab" if attempt.appends else "wb"
        readers = [
            Thread(target=_follow, args=(process.stdout, report, said), daemon=True),
            Thread(target=_keep_output, args=(process.stderr, *log), daemon=True),
        ]
        in_time = True
        try:
            for reader in readers:
                reader.start()
            with suppress(BrokenPipeError):  # it has died already; its exit code follows
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
            process.wait(attempt.time_limit)
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
        return _end(said, code) if in_time else End(f"not finished within {attempt.time_limit:g} s")

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill(process)


def _worker(attempt: Attempt) -> Worker:
    """The process for an attempt; that of an isolated run need not start what isolates its agent."""
    if not attempt.run["isolated"]:
        return Worker()
    from mrl_bench.runs.isolation.remote import LENT, isolation

    try:
        lent = isolation().lend()
    except ContractError:  # it was killed; the worker starts its own
        return Worker()
    with lent:
        return Worker(lent={LENT: lent})


def _end(said: Mapping[str, str], code: int) -> End:
    """How a worker ended that has said this and exited with this code.

    What it says may come from the run's code, so it concerns this run alone.
    """
    if "refused" in said:
        return End(said["refused"], excused=True, final=True)
    if said:
        return End(next(iter(said.values())), final=True, blames_store="store" in said)
    if code < 0:
        return End(f"the worker was killed by signal {-code}", excused=-code in _KILLED_FROM_OUTSIDE)
    return End(f"the worker ended with code {code}")


def _follow(reports: IO[bytes], report: Callable[[bytes], None], said: dict[str, str]) -> None:
    """Forwards the progress that a worker reports, and collects in `said` why it has no result."""
    with reports:
        while line := reports.readline(2**16):
            with suppress(Exception):  # the run's code can write here too
                found = json.loads(line)
                if "stage" in found:
                    report(line)
                said |= {
                    kind: printable(" ".join(found[kind].split()))
                    for kind in ("refused", "store", "error")
                    if kind in found
                }


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
