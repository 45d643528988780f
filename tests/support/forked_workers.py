"""Processes that are forked from one that has imported torch, which takes seconds in each new one.

`execute` executes code in one, and `forked()` replaces how the executor starts a worker. A forked process has
its own process group, environment, import path, pipes and exit, as others have, and has imported nothing of the code
of a run. Tests of how processes start do without it.

`python -m forked_workers FD` is the process that forks. It takes requests from a socket and ends with it.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from threading import Lock
from typing import IO, NoReturn
from unittest.mock import patch

from mrl_bench.errors import ContractError
from mrl_bench.runs import executor

_LOCK = Lock()


class ForkedWorker:
    """What the executor uses of a Popen."""

    def __init__(self, server: socket.socket, code: str | None = None) -> None:
        pipes = [os.pipe() for _ in range(4)]
        (their_in, our_in), (our_out, their_out), (our_err, their_err), (our_end, their_end) = pipes
        path = [entry or os.getcwd() for entry in sys.path]
        environment = executor.worker_environment()
        request = json.dumps(
            {"path": path, "environ": environment, "cwd": os.getcwd(), "code": code}
        ).encode()
        theirs = [their_in, their_out, their_err, their_end]
        with _LOCK:
            socket.send_fds(server, [len(request).to_bytes(8)], theirs)
            server.sendall(request)
        for fd in theirs:
            os.close(fd)
        self.stdin: IO[bytes] = open(our_in, "wb")  # noqa: SIM115
        self.stdout: IO[bytes] = open(our_out, "rb")  # noqa: SIM115
        self.stderr: IO[bytes] = open(our_err, "rb")  # noqa: SIM115
        self._end: IO[bytes] = open(our_end, "rb", buffering=0)  # noqa: SIM115
        self.pid = int(self._line())
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._end], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("worker", timeout or 0.0)
            self.returncode = int(self._line())
            self._end.close()
        return self.returncode

    def _line(self) -> bytes:
        line = self._end.readline()
        assert line, "the process that forks has died"
        return line


@cache
def _server() -> socket.socket:
    """A connection to the process that forks; it is started when it is first needed, and ends with this one."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "forked_workers", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C in the terminal is for the tests
            env=executor.worker_environment(),
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def execute(code: str, timeout: float = 100) -> subprocess.CompletedProcess[str]:
    """Executes code in a process that has imported torch, as `python -c` does in one that has imported nothing.

    Raises:
        TimeoutExpired: it has not ended; it is killed.
    """
    process, texts = ForkedWorker(_server(), code), {"out": "", "err": ""}
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
    for reader in readers:
        reader.join()
    return subprocess.CompletedProcess(["forked"], status, texts["out"], texts["err"])


def execute_lines(*lines: str) -> list[str]:
    """As `mrl_bench.checks.new_process.execute`."""
    done = execute("\n".join(lines))
    if done.returncode:
        raise ContractError(f"in a new interpreter: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return done.stdout.split()


@contextmanager
def forked() -> Iterator[None]:
    """The executor starts its workers by forks."""
    with patch.object(executor, "_start_worker", lambda: ForkedWorker(_server())):
        yield


def _serve(server: socket.socket) -> str | None:
    """Forks for every request. It returns in the forked processes alone: the code to execute, or None for a worker."""
    while True:
        size, fds, _, _ = socket.recv_fds(server, 8, 4)
        if not size:
            os._exit(0)
        request = b""
        while len(request) < int.from_bytes(size):
            request += server.recv(2**16)
        if not _keep(fds[3]):
            break
        for fd in fds:
            os.close(fd)
    os.setsid()
    for number, fd in enumerate(fds[:3]):
        os.dup2(fd, number)
    os.closerange(3, 256)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    asked = json.loads(request)
    os.environ.clear()
    os.environ.update(asked["environ"])
    os.chdir(asked["cwd"])
    sys.path[:] = asked["path"]
    sys.argv[:] = ["forked"]
    return asked["code"]


def _keep(end: int) -> bool:
    """Forks a worker and a process that waits for it and writes its number and how it ended.

    Returns whether this is the process that goes on to serve.
    """
    if first := os.fork():
        os.waitpid(first, 0)
        return True
    if os.fork():  # forked twice: the process that forks need not wait for this one
        os._exit(0)
    worker = os.fork()
    if not worker:
        return False
    os.write(end, b"%d\n" % worker)
    _, status = os.waitpid(worker, 0)
    os.write(end, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _exit_after(main: Callable[[], None]) -> NoReturn:
    """Ends as the interpreter would, except that it does not take apart what the forks share."""
    status: object = 0
    try:
        main()
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(status if isinstance(status, int) else status is not None)


if __name__ == "__main__":
    import torch
    import torch.utils.tensorboard

    from mrl_bench.runs import code, worker

    torch.set_num_threads(1)
    torch.optim.Adam([torch.zeros(1)]).zero_grad()  # the first optimiser imports a compiler
    code._packages()  # reading what is installed takes long, too
    gc.freeze()  # so that no fork copies all of it
    todo = _serve(socket.socket(fileno=int(sys.argv[1])))
    _exit_after(worker.main if todo is None else partial(exec, todo, {"__name__": "__main__"}))
