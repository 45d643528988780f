"""The other road users of a scene, in coordinates of the route: (K, N), K of them in each of N slots."""

from __future__ import annotations

from typing import NamedTuple

from mrl_tasks.driving.geometry import Box, Route, point
from mrl_tasks.driving.vehicle import HALF_LENGTH, HALF_WIDTH, Array, Namespace

ABSENT, VEHICLE, PEDESTRIAN = 0.0, 1.0, 2.0  # kinds
PEDESTRIAN_HALF = 0.3  # [m] of a side


class Others(NamedTuple):
    """Traffic comes first, in its order; who plays the event comes last."""

    s: Array  # (K, N) [m] along the route
    lateral: Array  # (K, N) [m] to the left of it
    speed: Array  # (K, N) [m/s] along the route, negative if oncoming
    drift: Array  # (K, N) [m/s] to the left
    kind: Array  # (K, N)


class Bodies(NamedTuple):
    """Where they are on the map, (K, N)."""

    x: Array  # [m]
    y: Array
    cos: Array  # of the route's heading there; who comes the other way is turned by pi
    sin: Array


def bodies(xp: Namespace, route: Route, others: Others) -> Bodies:
    on = point(xp, route, others.s)
    return Bodies(on.x - others.lateral * on.sin, on.y + others.lateral * on.cos, on.cos, on.sin)


def boxes(xp: Namespace, bodies: Bodies, kind: Array) -> Box:
    """What they take of the road. Who is absent has to be left out by the caller."""
    walks = kind == PEDESTRIAN
    return Box(
        *bodies,
        half_length=xp.where(walks, PEDESTRIAN_HALF, HALF_LENGTH),
        half_width=xp.where(walks, PEDESTRIAN_HALF, HALF_WIDTH),
    )
