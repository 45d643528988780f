"""The address of the CARLA server, from the environment. Imports neither CARLA nor its client."""

from __future__ import annotations

import os
from typing import NamedTuple

from mrl_bench.errors import UsageError

# Where the server listens. Command-line options set these variables, and worker processes inherit them.
HOST_VARIABLE, PORT_VARIABLE = "MRL_BENCH_CARLA_HOST", "MRL_BENCH_CARLA_PORT"

LIGHT_MAPS = "Light/Maps"  # where our own server's maps lie; a real server's lie in "Carla/Maps"
INSTALL = (
    "CARLA's Python package is not installed: pip install 'mrl-bench[carla]' (Python 3.11 or 3.12, x86-64)"
)


class Address(NamedTuple):
    """Where a server listens. No part of a scenario's meaning, so it comes from the environment."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def address() -> Address | None:
    """The server that `--carla-host` and `--carla-port` name, or the environment; None if neither does.

    Raises:
        UsageError: the port is no number from 1 to 65535.
    """
    host, port = os.environ.get(HOST_VARIABLE), os.environ.get(PORT_VARIABLE)
    if not (host or port):
        return None
    if not (port or "2000").isdecimal() or not 0 < int(port or "2000") < 65536:
        raise UsageError(f"{port!r} is no port: a number from 1 to 65535")
    return Address(host or "127.0.0.1", int(port or "2000"))
