"""Driving on a CARLA server: its address, and its name in results. Does not import CARLA's package."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import NamedTuple

from mrl_bench.errors import MissingPart

LIGHT_MAPS = "Light/Maps"  # where our own server's maps lie; a real server's lie in "Carla/Maps"
INSTALL = (
    "CARLA's Python package is not installed: pip install 'mrl-bench[carla]' (Python 3.11 or 3.12, x86-64)"
)


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


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
