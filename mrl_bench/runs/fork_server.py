"""Worker processes, forked from one process that has imported torch: to import it takes seconds in each new process.

A forked process has its own process group, environment, import path and pipes, and has imported nothing of the code of
a run. `python -m mrl_bench.runs.fork_server FD` is the process that forks. It takes requests from a socket, and ends
when the process that asks does.
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
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, partial
from threading import Lock
from types import MappingProxyType
from typing import IO, NoReturn

from mrl_bench.errors import MrlBenchError

_LOCK = Lock()
_MOST_FDS = 16  # that come with a request: standard input, output and error, the end, and what is lent


class Worker:
    """A forked process that runs `mrl_bench.runs.worker`, or the given code; in its use like a `subprocess.Popen`.

    Args:
        code: to execute.
        lent: sockets for the process; an environment variable of each name holds the number of its file descriptor.

    Raises:
        MrlBenchError: no process can be forked.
    """

    def __init__(
        self,
        code: str | None = None,
        lent: Mapping[str, socket.socket] = MappingProxyType({}),
    ) -> None:
        pipes = [os.pipe() for _ in range(4)]
        (their_in, our_in), (our_out, their_out), (our_err, their_err), (our_end, their_end) = pipes
        self.stdin: IO[bytes] = open(our_in, "wb")  # noqa: SIM115
        self.stdout: IO[bytes] = open(our_out, "rb")  # noqa: SIM115
        self.stderr: IO[bytes] = open(our_err, "rb")  # noqa: SIM115
        self._end: IO[bytes] = open(our_end, "rb", buffering=0)  # noqa: SIM115
        path = [entry or os.getcwd() for entry in sys.path]
        request = {
            "path": path,
            "environ": {**worker_environment(), **{name: str(3 + n) for n, name in enumerate(lent)}},
            "cwd": os.getcwd(),
            "code": code,
        }
        theirs = (their_in, their_out, their_err, their_end)
        try:
            with _LOCK:
                if _server().process.poll() is not None:  # it was killed
                    _server.cache_clear()
                _server().fork(
                    json.dumps(request).encode(), (*theirs, *(end.fileno() for end in lent.values()))
                )
        finally:
            for fd in theirs:
                os.close(fd)
        started = self._end.readline()
        if not started:
            for pipe in (self.stdin, self.stdout, self.stderr, self._end):
                pipe.close()
            raise MrlBenchError("the process that starts workers has ended")
        self.pid = int(started)
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, or minus the signal that ended it. Raises: subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._end], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("worker", timeout or 0.0)
            line = self._end.readline()
            self.returncode = int(line) if line else -signal.SIGKILL  # who waits for it was killed, too
            self._end.close()
        return self.returncode


def worker_environment() -> dict[str, str]:
    """The environment variables of a worker."""
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",  # the order of a set of strings must not decide a result
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    }


class _Server:
    """The process that forks; it is started now."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                # -P: the same import path as here
                [sys.executable, "-P", "-m", "mrl_bench.runs.fork_server", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C in the terminal is for the process that asks
                env=worker_environment(),
            )
        atexit.register(self._end)

    def fork(self, request: bytes, fds: tuple[int, ...]) -> None:
        socket.send_fds(self._socket, [len(request).to_bytes(8)], fds)
        self._socket.sendall(request)

    def _end(self) -> None:
        self._socket.close()
        self.process.kill()  # it may still be importing
        self.process.wait()


@cache
def _server() -> _Server:
    return _Server()


def start() -> None:
    """Starts the process that forks, which imports torch while this one goes on."""
    _server()


def _serve(server: socket.socket) -> str | None:
    """Forks for every request. It returns in the forked processes alone: the code to execute, or None for a worker."""
    while True:
        size, fds, _, _ = socket.recv_fds(server, 8, _MOST_FDS)
        if not size:
            os._exit(0)
        request = b""
        while left := int.from_bytes(size) - len(request):
            piece = server.recv(left)  # not more: the next request may be there already
            if not piece:
                os._exit(0)
            request += piece
        if not _keep(fds[3]):
            break
        for fd in fds:
            os.close(fd)
    os.setsid()
    inherited = [*fds[:3], *fds[4:]]
    for number, fd in enumerate(inherited):
        os.dup2(fd, number)
    os.closerange(len(inherited), 256)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", 1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    asked = json.loads(request)
    os.environ.clear()
    os.environ.update(asked["environ"])
    os.chdir(asked["cwd"])
    sys.path[:] = asked["path"]
    sys.argv[:] = ["worker"]
    code: str | None = asked["code"]
    return code


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
    with suppress(BrokenPipeError):  # nobody wants to know any more
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
    threading._shutdown()  # type: ignore[attr-defined]
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
    code.installed_packages()  # reading what is installed takes long, too
    gc.freeze()  # so that no fork copies all of it
    todo = _serve(socket.socket(fileno=int(sys.argv[1])))
    _exit_after(worker.main if todo is None else partial(exec, todo, {"__name__": "__main__"}))
