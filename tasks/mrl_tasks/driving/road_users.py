"""The other road users of a scene, in route coordinates: (K, N), K of them in each of N environment instances."""

from __future__ import annotations

from typing import NamedTuple

from mrl_tasks.driving.geometry import Box, Route, point
from mrl_tasks.driving.vehicle import HALF_LENGTH, HALF_WIDTH, Array, Namespace

ABSENT, VEHICLE, PEDESTRIAN = 0.0, 1.0, 2.0  # kinds
PEDESTRIAN_HALF = 0.3  # [m] of a side


class RoadUsers(NamedTuple):
    """Traffic comes first, in its order; the actor of the event comes last."""

    s: Array  # (K, N) [m] along the route
    lateral: Array  # (K, N) [m] to the left of it
    speed: Array  # (K, N) [m/s] along the route, negative if oncoming
    drift: Array  # (K, N) [m/s] to the left
    kind: Array  # (K, N)


class Bodies(NamedTuple):
    """Their positions on the map, (K, N)."""

    x: Array  # [m]
    y: Array
    cos: Array  # of the route's heading there; oncoming road users are turned by pi
    sin: Array


def bodies(xp: Namespace, route: Route, road_users: RoadUsers) -> Bodies:
    on = point(xp, route, road_users.s)
    return Bodies(on.x - road_users.lateral * on.sin, on.y + road_users.lateral * on.cos, on.cos, on.sin)


def boxes(xp: Namespace, bodies: Bodies, kind: Array) -> Box:
    """Their boxes on the ground. The caller leaves out absent ones."""
    walks = kind == PEDESTRIAN
    return Box(
        *bodies,
        half_length=xp.where(walks, PEDESTRIAN_HALF, HALF_LENGTH),
        half_width=xp.where(walks, PEDESTRIAN_HALF, HALF_WIDTH),
    )
