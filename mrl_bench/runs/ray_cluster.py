"""Executes attempts on the nodes of a Ray cluster, or on this machine as if it were one.

A node needs the same code and scenario files at the same paths, and no shared folder: it gets the files of a run, keeps
them in a temporary folder and sends them back. Ray pickles what it sends; between driver and nodes that is bytes, text
and numbers.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

from mrl_bench.errors import MissingPart, MrlBenchError, printable, reason
from mrl_bench.runs.attempt import Attempt, End, read_files, write_files
from mrl_bench.runs.processes import Processes
from mrl_bench.runs.store import Store

_ON_THIS_MACHINE = {  # Ray's settings where it is started here
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else it listens on all network interfaces
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # by default it yields to every other process
}

# What a node sends: progress, as ("report", line); then the files, as (name, contents); then ("end", `End`).
Message = tuple[str, bytes]


@dataclass
class RayCluster:
    """A Ray cluster. An attempt is one Ray task with one core, and a share of a GPU if it computes on one."""

    cores: int
    _start: Callable[..., Any]  # submits `execute_on_node`
    _path: list[str]  # the import path of workers, on which Ray has put nothing
    _running: set[Any] = field(default_factory=set)
    _stopped: bool = False
    _lock: Lock = field(default_factory=Lock)  # of the two above

    @staticmethod
    def connect(address: str | None, workers: int | None, device: str) -> RayCluster:
        """Connects to a cluster; without an address starts Ray on this machine, where it ends with this process.

        Args:
            address: as `ray.init` takes it; "auto" is that of the cluster that this machine belongs to.
            workers: attempts at a time, by default one per core of the cluster.
            device: of the runs.

        Raises:
            MissingPart: Ray is not installed, there is no cluster at the address, or it has no GPU.
        """
        path, handler = [entry or os.getcwd() for entry in sys.path], signal.getsignal(signal.SIGTERM)
        if address is None:
            os.environ.update(_ON_THIS_MACHINE)
        try:
            import ray
        except ImportError:
            raise MissingPart("--executor ray needs Ray: pip install 'mrl-bench[ray]'") from None
        here = {} if address else {"include_dashboard": False, "num_cpus": workers}
        try:
            ray.init(address or "local", log_to_driver=False, logging_level="ERROR", **here)
        except (OSError, ValueError, RuntimeError) as error:
            raise MissingPart(
                f"no Ray cluster at {address or 'this machine'}: {printable(reason(error))[:300]}"
            ) from None
        signal.signal(signal.SIGTERM, handler)  # Ray has set its own
        sys.path[:] = path  # Ray has put packages on it
        found = ray.cluster_resources()
        cores, gpus = int(found.get("CPU", 0)), found.get("GPU", 0)
        if not cores or (device == "cuda" and not gpus):
            raise MissingPart(f"the Ray cluster has no {'GPU' if cores else 'core'}")
        share = min(gpus / (workers or cores), 1.0) if device == "cuda" else 0.0
        task = ray.remote(execute_on_node).options(
            num_returns="streaming",
            num_cpus=1,
            num_gpus=int(share * 1e4) / 1e4,  # as precisely as Ray counts
            max_retries=0,  # the executor retries
        )
        return RayCluster(cores, task.remote, path)

    def execute(self, attempt: Attempt, store: Store, report: Callable[[bytes], None]) -> End:
        import ray

        files = read_files(store, attempt)
        with self._lock:
            if self._stopped:
                raise MrlBenchError("stopped")
            messages = self._start(attempt.to_bytes(), self._path, files)
            self._running.add(messages)
        received = dict[str, bytes]()
        try:
            for message in messages:
                kind, data = ray.get(message)
                if kind == "report":
                    report(data)
                else:
                    received[kind] = data
        except ray.exceptions.RayError as error:
            received.clear()
            why = printable(reason(getattr(error, "cause", None) or error))[:200]
            received["end"] = End(f"its Ray task was lost: {why}", excused=True).to_bytes()
        finally:
            with self._lock:
                self._running.discard(messages)
        if self._stopped:
            raise MrlBenchError("stopped")
        end = End.from_bytes(received.pop("end"))
        if received:
            write_files(store, attempt, received)
        return end

    def stop(self) -> None:
        import ray

        with self._lock:
            self._stopped = True
            for messages in self._running:
                with suppress(ray.exceptions.RayError):
                    ray.cancel(messages, force=True)


def execute_on_node(asked: bytes, path: list[str], files: dict[str, bytes]) -> Iterator[Message]:
    """Executes an attempt in a temporary results folder, which gets these files of the run first.

    Raises:
        StoreError: this node cannot write them.
    """
    sys.path[:] = path
    attempt, lines = Attempt.from_bytes(asked), SimpleQueue[bytes | None]()
    with TemporaryDirectory(prefix="mrl-bench-") as folder, ThreadPoolExecutor(1) as pool:
        store = Store(Path(folder))
        write_files(store, attempt, files)
        execution = pool.submit(Processes().execute, attempt, store, lines.put)
        execution.add_done_callback(lambda _: lines.put(None))
        while (line := lines.get()) is not None:
            yield "report", line
        end = execution.result()
        if end.blames_store:
            store.require_room()
        for name, data in read_files(store, attempt).items():  # noqa: UP028  (Ray calls `send`)
            yield name, data
        yield "end", end.to_bytes()
