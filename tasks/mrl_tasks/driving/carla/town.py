"""Stretches of lane in a CARLA town. Its map cannot be copied, so each environment instance gets one stretch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from mrl_tasks.driving.carla.axes import from_carla
from mrl_tasks.driving.carla.client import LanePoint, ways
from mrl_tasks.driving.family import END_MARGIN, PREVIEW, TOWN_SPEED
from mrl_tasks.driving.geometry import Route
from mrl_tasks.driving.roads import SPACING
from mrl_tasks.driving.vehicle import DT

Stretch = NDArray[np.float64]  # x [m], y [m], heading [rad, unwrapped], height [m] and lane width [m], (5, M)

APART = 20.0  # [m] between stretches; no road user gets so far from the middle of its lane
NARROWEST = 3.0  # [m] of a lane
SHARPEST = 1 / 30.0  # [1/m] of a bend
FLAT = 0.2  # [m] between the highest and the lowest point, because the simulation is flat
_STRIDE = 0.5  # [m] of the walk along a lane
_SPARSE = 5  # only every fifth point is checked for its distance from other stretches


def length_for(horizon: int) -> int:
    """Length [m] of a stretch whose end a car at `TOWN_SPEED` does not reach within the horizon."""
    return math.ceil(TOWN_SPEED * horizon * DT + END_MARGIN)


@cache
def stretches(xodr: str, length: int) -> tuple[Stretch, ...]:
    """Stretches found greedily, in an order that depends only on the map. Args: length: [m] of each."""
    found: list[Stretch] = []
    for way in ways(xodr, APART, _STRIDE):
        first = next(way)
        if _apart(_table([first]), found):  # else it is not worth walking along
            stretch = _even(_table([first, *islice(way, int(1.5 * length / _STRIDE))]), length)
            if stretch is not None and _apart(stretch, found):
                found.append(stretch)
    return tuple(found)


def one_behind_the_other(found: Sequence[Stretch]) -> Route:
    """A route of stretches; their last points are only seen ahead. The narrowest stretch gives the lane's width."""
    x, y, heading, _, width = np.concatenate(found, axis=1)
    half = float(width.min()) / 2
    return Route(
        x=x,
        y=y,
        heading=heading,
        cos=np.cos(heading),
        sin=np.sin(heading),
        curvature=np.concatenate([np.gradient(stretch[2], SPACING) for stretch in found]),
        length=SPACING * len(found[0][0]) - PREVIEW[-1],
        closed=False,
        stretches=len(found),
        lane_width=2 * half,
        left_lanes=0,
        left_edge=half,
        right_edge=half,
    )


def _table(points: Sequence[LanePoint]) -> Stretch:
    rows = [(*from_carla(point.transform), point.transform.z, point.width) for point in points]
    x, y, yaw, height, width = np.array(rows).T
    return np.array([x, y, np.unwrap(yaw), height, width])


def _even(walk: Stretch, length: int) -> Stretch | None:
    """The first metres of a walk, with a point every `SPACING`; None if a car could not drive on them."""
    gone = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(walk[:2])))])
    points = np.arange(0.0, length, SPACING)
    stretch = np.array([np.interp(points, gone, column) for column in walk])
    bends = np.abs(np.gradient(stretch[2], SPACING)).max()
    fits = stretch[4].min() >= NARROWEST and np.ptp(stretch[3]) <= FLAT and bends <= SHARPEST
    return stretch if fits and gone[-1] >= length else None


def _apart(stretch: Stretch, others: Sequence[Stretch]) -> bool:
    """Whether it is at least `APART` from all others."""
    x, y = stretch[:2, ::_SPARSE, None]
    return all(np.hypot(x - other[0, ::_SPARSE], y - other[1, ::_SPARSE]).min() >= APART for other in others)
