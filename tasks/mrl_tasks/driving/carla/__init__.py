"""Driving on a CARLA server: which one, and what it is called in results. Imports nothing of CARLA's."""

from __future__ import annotations

import os
from importlib.metadata import version
from importlib.util import find_spec
from typing import NamedTuple

from mrl_bench.errors import MissingPart, UsageError
from mrl_tasks.command_line import HOST_VARIABLE, PORT_VARIABLE

# Address and kind of the server that was found, for processes started from this one.
_FOUND_VARIABLE = "MRL_BENCH_CARLA_FOUND"

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


def simulator_name() -> str:
    """Name and version of what computes the numbers, as "carla 0.9.16, server: light".

    Where no server is named, nothing is said of it. Where one is, it is asked once.

    Raises:
        MissingPart: CARLA's package is not installed, or the server does not answer.
    """
    if find_spec("carla") is None:
        raise MissingPart(INSTALL)
    name = f"carla {version('carla')}"
    server = address()
    if server is None:
        return name
    found, _, kind = os.environ.get(_FOUND_VARIABLE, "").partition(" ")
    if found != str(server):
        from mrl_tasks.driving.carla.client import server_kind

        kind = server_kind(server)
        os.environ[_FOUND_VARIABLE] = f"{server} {kind}"
    return f"{name}, server: {kind}"
