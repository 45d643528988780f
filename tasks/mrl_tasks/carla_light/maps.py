"""The maps that the light server can load."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from mrl_bench.errors import UsageError
from mrl_tasks.driving.carla.axes import Transform
from mrl_tasks.driving.carla.client import MapError, Signal, drivable_lanes, traffic_signals
from mrl_tasks.driving.carla.server import LIGHT_MAPS

OPENDRIVE_WORLD = "OpenDriveMap"  # the name that `generate_opendrive_world` loads
_SPAWN_SPACING = 25.0  # [m] along every lane
_SPAWN_HEIGHT = 0.3  # [m] above the road, as on CARLA's own maps


@dataclass(frozen=True)
class RoadMap:
    """A road network, and what the server derives from it."""

    name: str
    xodr: str
    spawn_points: tuple[Transform, ...]
    signals: tuple[Signal, ...]

    @property
    def path(self) -> str:
        """As the client shows it."""
        return f"{LIGHT_MAPS}/{self.name}"


def parse_map(name: str, xodr: str) -> RoadMap:
    """Raises: MapError: it is no OpenDRIVE, or has no lane to drive on."""
    lanes = drivable_lanes(xodr, _SPAWN_SPACING)
    points = tuple(lane._replace(z=lane.z + _SPAWN_HEIGHT) for lane in lanes)
    return RoadMap(name, xodr, points, traffic_signals(xodr))


def read_maps(files: Iterable[Path]) -> dict[str, RoadMap]:
    """Maps by name, which is that of the file.

    Raises:
        UsageError: a file cannot be read, or is no map.
    """
    maps = {}
    for path in files:
        try:
            xodr = path.read_text()
            if not _survives(xodr):
                raise MapError("CARLA's parser crashes on it")
            maps[path.stem] = parse_map(path.stem, xodr)
        except (OSError, UnicodeDecodeError, MapError) as error:
            raise UsageError(f"{path}: not a map: {error}") from None
    return maps


def _survives(xodr: str) -> bool:
    """Whether CARLA's parser returns. On some broken maps it ends its process, so it is tried in another one."""

    def parse() -> None:
        with suppress(MapError):
            parse_map("", xodr)

    child = get_context("fork").Process(target=parse)
    child.start()
    child.join()
    return child.exitcode == 0
