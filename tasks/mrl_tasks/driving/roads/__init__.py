"""The roads of the driving family: an OpenDRIVE map each, and a route along it. `write.py` made both."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

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
    "loop": Layout(0, "twice round a closed circuit"),
}


def xodr_path(name: str) -> Path:
    """The OpenDRIVE map of a road."""
    return _FOLDER / f"{name}.xodr"


def route_path(name: str) -> Path:
    """Its route in JSON: lane_width [m]; x, y [m] and heading [rad, unwrapped] of its points, (M,) each."""
    return _FOLDER / f"{name}.json"
