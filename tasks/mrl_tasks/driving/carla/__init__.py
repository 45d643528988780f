"""Driving on a CARLA server. This module imports neither CARLA nor its client."""

from __future__ import annotations

import os
from importlib.metadata import version
from importlib.util import find_spec

from mrl_bench.errors import MissingPart
from mrl_tasks.driving.carla.server import INSTALL, address

# Address and kind of the server that was found, for processes started from this one.
_FOUND_VARIABLE = "MRL_BENCH_CARLA_FOUND"


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
