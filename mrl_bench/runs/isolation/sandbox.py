"""What an agent's process may not do. It works on Linux, as far as the system allows; `enter` says what holds."""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import sys
from contextlib import suppress

MEMORY = 2**33  # bytes of address space
FILES, PROCESSES = 64, 64

_NEW_USER, _NEW_NET, _NEW_IPC, _NEW_PID = 0x10000000, 0x40000000, 0x08000000, 0x20000000
_SET_DUMPABLE, _NO_NEW_PRIVS = 4, 38


def enter(lifeline: int) -> list[str]:
    """Sandboxes this process. It returns in a new process; the old one watches it, and kills it at the end.

    Args:
        lifeline: file descriptor of a socket; when its other end is closed, the new process and all that it started
            are killed.

    Returns:
        What holds: "memory", "files", "processes", "network", "other processes".
    """
    holds = ["other processes", "network"] if _own_namespaces() else []
    ignored = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if child := os.fork():
        _watch(child, lifeline)
    signal.signal(signal.SIGCHLD, ignored)
    for limit, most, name in (
        (resource.RLIMIT_AS, MEMORY, "memory"),
        (resource.RLIMIT_FSIZE, 0, "files"),  # nothing can be written to a file
        (resource.RLIMIT_NOFILE, FILES, ""),
        (resource.RLIMIT_NPROC, PROCESSES, "processes"),
        (resource.RLIMIT_CORE, 0, ""),
    ):
        with suppress(OSError, ValueError):
            resource.setrlimit(limit, (most, most))
            holds += [name] if name else []
    sys.dont_write_bytecode = True
    _libc().prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    return holds


def hide_from_others(hidden: bool) -> None:
    """Whether other processes of this user may read this one's memory, as a debugger does. Root always may."""
    _libc().prctl(_SET_DUMPABLE, 0 if hidden else 1, 0, 0, 0)


def _own_namespaces() -> bool:
    """No network, and no process but its own children. False where the system does not allow it."""
    flags = _NEW_USER | _NEW_NET | _NEW_IPC | _NEW_PID
    return bool(_libc().unshare(flags) == 0)


def _watch(child: int, lifeline: int) -> None:
    """Waits until the child or the other end of the lifeline ends, and kills the child. Does not return."""
    poll = select.poll()
    poll.register(lifeline, select.POLLRDHUP)
    while not poll.poll(200):
        if os.waitpid(child, os.WNOHANG)[0]:
            os._exit(0)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)  # and with it everything in its namespace
    os.waitpid(child, 0)
    os._exit(0)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
