"""The roads of the driving family: an OpenDRIVE map each, and a route along it. `tools/write_roads.py` made both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

_FOLDER = Path(__file__).parent
SPACING = 1.0  # [m] between the points of a route


class Layout(NamedTuple):
    """The lanes and edges next to the route's lane."""

    left_lanes: int  # lanes of the same direction, to its left
    doc: str


# On every road one oncoming lane follows to the left, and there is a shoulder on both sides.
ROADS = {
    "straight": Layout(0, "straight on"),
    "curve": Layout(0, "a wide bend to the left and a narrower one to the right"),
    "s_bends": Layout(0, "bends of 45 m radius, left and right by turns"),
    "highway": Layout(1, "two lanes, wide bends"),
    "crossing": Layout(0, "a left turn where two roads cross"),
    "loop": Layout(0, "a closed circuit, which has no end"),
}


def xodr_path(name: str) -> Path:
    """The OpenDRIVE map of a road."""
    return _FOLDER / f"{name}.xodr"


def route_path(name: str) -> Path:
    """Its route in JSON: see `read_points`."""
    return _FOLDER / f"{name}.json"


@cache
def read_points(name: str) -> Mapping[str, Any]:
    """A road's route: lane_width [m]; x, y [m] and heading [rad, unwrapped] of its points, (M,) each.

    Round a closed road, the first point follows the last; `lap` [m] is the way from the first back to it.
    """
    table: Mapping[str, Any] = json.loads(route_path(name).read_text())
    return table


def length(name: str) -> float:
    """Of a road's route [m]: from its first point to its last, or a lap of a closed one."""
    table = read_points(name)
    return float(table.get("lap", SPACING * (len(table["x"]) - 1)))


def is_closed(name: str) -> bool:
    return "lap" in read_points(name)
