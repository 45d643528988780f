"""Routes as curves, positions along them, and overlap of oriented boxes. Arrays of a call have one shape."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from mrl_tasks.driving.roads import ROADS, SPACING, is_closed, length, read_points
from mrl_tasks.driving.vehicle import Array, Namespace, clip

SHOULDER = 1.5  # [m] of asphalt outside the outer lanes


class Route(NamedTuple):
    """The centre of the lane to follow, at every `SPACING` metres, and the lanes and edges next to it.

    Where environment instances share a world, it is a sequence of stretches of equal length, one for each instance.
    """

    x: Array  # (M,) [m]
    y: Array
    heading: Array  # (M,) [rad] unwrapped
    cos: Array  # (M,) of the heading
    sin: Array
    curvature: Array  # (M,) [1/m], positive to the left
    length: float  # [m] of a stretch, from its first point on; of a closed route, of a lap
    closed: bool  # whether the first point follows the last
    stretches: int
    lane_width: float  # [m]
    left_lanes: int  # lanes of the same direction, to the left
    left_edge: float  # [m] from the lane's centre to where the car's middle may not go
    right_edge: float


class Point(NamedTuple):
    """Of a route at some s, all of the shape of that s."""

    x: Array
    y: Array
    heading: Array
    cos: Array
    sin: Array
    curvature: Array


class Place(NamedTuple):
    """Where a car is on a route, (N,)."""

    s: Array  # [m] along the route; on a closed one it grows from lap to lap
    lateral: Array  # [m] to the left of it
    heading_error: Array  # [rad] of the car, counter-clockwise from the route, in [-pi, pi]
    along: Array  # heading of the route: cosine and sine
    across: Array


@cache
def read_route(name: str, keep_lane: bool) -> Route:
    """The route along one of our roads, in numpy. Its edges are those of the lane to keep, or of the asphalt."""
    table = read_points(name)
    lane_width, heading, left_lanes = table["lane_width"], np.array(table["heading"]), ROADS[name].left_lanes
    curvature = np.gradient(heading, SPACING)
    curvature[-1] = 0.0  # it goes straight on beyond its end
    return Route(
        x=np.array(table["x"]),
        y=np.array(table["y"]),
        heading=heading,
        cos=np.cos(heading),
        sin=np.sin(heading),
        curvature=curvature,
        length=length(name),
        closed=is_closed(name),
        stretches=1,
        lane_width=lane_width,
        left_lanes=left_lanes,
        left_edge=lane_width / 2 if keep_lane else lane_width * (1.5 + left_lanes) + SHOULDER,
        right_edge=lane_width / 2 if keep_lane else lane_width / 2 + SHOULDER,
    )


def point(xp: Namespace, route: Route, s: Array) -> Point:
    """The route at s, from its nearest point along an arc, to second order.

    A closed route goes on with the next lap, any other one straight on beyond its ends.
    """
    if route.closed:
        s = s - route.length * xp.floor(s / route.length)
    # Clipped as an integer, because NaN becomes an arbitrary integer.
    index = clip(xp, xp.astype(s * (1.0 / SPACING) + 0.5, xp.int64), 0, len(route.x) - 1)
    rest = s - index * SPACING
    cos, sin, curvature = route.cos.take(index), route.sin.take(index), route.curvature.take(index)
    turn = curvature * rest
    bend = 0.5 * turn
    return Point(
        x=route.x.take(index) + rest * (cos - bend * sin),
        y=route.y.take(index) + rest * (sin + bend * cos),
        heading=route.heading.take(index) + turn,
        cos=cos - turn * sin,
        sin=sin + turn * cos,
        curvature=curvature,
    )


def gap(xp: Namespace, route: Route, s: Array, other: Array) -> Array:
    """How far `other` is ahead of s along the route [m], negative if behind; round a closed one the shorter way."""
    ahead = other - s
    return ahead - route.length * xp.round(ahead / route.length) if route.closed else ahead


def project(xp: Namespace, route: Route, x: Array, y: Array, yaw: Array, guess: Array) -> Place:
    """Projects (x, y) on the route, by one Newton step from a guess of s that is within about a metre."""
    near = point(xp, route, guess)
    dx, dy = x - near.x, y - near.y
    forward, left = dx * near.cos + dy * near.sin, dy * near.cos - dx * near.sin
    moved = forward / xp.maximum(1.0 - near.curvature * left, 0.2)
    turn = near.curvature * moved
    error = yaw - near.heading - turn
    return Place(
        s=guess + moved,
        lateral=left - 0.5 * turn * forward,
        heading_error=error - 2 * math.pi * xp.round(error * (0.5 / math.pi)),
        along=near.cos - turn * near.sin,
        across=near.sin + turn * near.cos,
    )


class Box(NamedTuple):
    """A rectangle on the ground: centre, cosine and sine of its yaw, and half of its sides."""

    x: Array
    y: Array
    cos: Array
    sin: Array
    half_length: Array
    half_width: Array


def overlap(xp: Namespace, one: Box, other: Box) -> Array:
    """Whether boxes overlap: no axis of either separates them (Gottschalk, Lin & Manocha 1996)."""
    dx, dy = other.x - one.x, other.y - one.y
    cos = xp.abs(one.cos * other.cos + one.sin * other.sin)
    sin = xp.abs(one.cos * other.sin - one.sin * other.cos)

    def meet(box: Box, far: Box) -> Array:
        """Along the sides of `box`."""
        forward, left = xp.abs(dx * box.cos + dy * box.sin), xp.abs(dy * box.cos - dx * box.sin)
        return (forward < box.half_length + far.half_length * cos + far.half_width * sin) & (
            left < box.half_width + far.half_length * sin + far.half_width * cos
        )

    return meet(one, other) & meet(other, one)
