"""What the client and the light server must agree on, and the address of a server. Does not import CARLA."""

from __future__ import annotations

from typing import NamedTuple

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
