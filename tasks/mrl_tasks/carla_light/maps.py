"""The maps that the light server can load."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
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
    # In another process, because on some broken maps CARLA's parser ends the one that it runs in.
    with ProcessPoolExecutor(1, get_context("fork")) as reader:
        for path in files:
            try:
                maps[path.stem] = reader.submit(parse_map, path.stem, path.read_text()).result()
            except BrokenProcessPool:
                raise UsageError(f"{path}: not a map: CARLA's parser crashes on it") from None
            except (OSError, UnicodeDecodeError, MapError) as error:
                raise UsageError(f"{path}: not a map: {error}") from None
    return maps
