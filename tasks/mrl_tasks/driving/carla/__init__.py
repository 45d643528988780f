"""Driving on a CARLA server, and the name of that simulator in results. Does not import CARLA's package."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from importlib.util import find_spec

from mrl_bench.errors import MissingPart
from mrl_tasks.driving.carla.server import INSTALL, Address


@cache
def simulator_name(server: Address) -> str:
    """Name and version of the simulator, as "carla 0.9.16, server: light". Asks the server once per process.

    Raises:
        MissingPart: CARLA's package is not installed, or the server does not answer.
    """
    if find_spec("carla") is None:
        raise MissingPart(INSTALL)
    from mrl_tasks.driving.carla.client import server_kind

    return f"carla {version('carla')}, server: {server_kind(server)}"
