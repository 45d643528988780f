"""Drivers of other cars: the Intelligent Driver Model along the route, and changes of lane.

Treiber, Hennecke & Helbing 2000, "Congested traffic states in empirical observations and microscopic simulations". A
driver changes lanes where the way ahead is freer there, in the spirit of MOBIL (Kesting, Treiber & Helbing 2007). One
car of a scene decides in each control step, by turns.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mrl_tasks.driving.geometry import Route, gap
from mrl_tasks.driving.road_users import VEHICLE, RoadUsers
from mrl_tasks.driving.vehicle import DT, HALF_LENGTH, Array, Namespace, clip

ACCELERATION, COMFORT = 2.0, 3.0  # [m/s^2] at most, and braking that is comfortable
HARDEST = 9.0  # [m/s^2] braking
STANDING_GAP = 2.0  # [m] between bumpers
SAME_LANE = 2.0  # [m] of lateral distance within which cars are in each other's way
CHANGE_SPEED = 1.2  # [m/s] sideways
FREE = 200.0  # [m] no driver looks farther ahead
ROOM_AHEAD, ROOM_BEHIND = 8.0, 12.0  # [m] between centres that a change of lane needs


class Drivers(NamedTuple):
    desired_speed: Array  # (K, N) [m/s]
    headway: Array  # (N,) [s]
    patience: Array  # (N,) gain in the IDM's interaction term that a change of lane must promise


def interaction(
    xp: Namespace,
    route: Route,
    s: Array,
    lateral: Array,
    speed: Array,
    headway: Array,
    road_users: RoadUsers,
) -> Array:
    """(s* / gap)^2 of the IDM, towards the nearest one ahead in the same lane; 0 where there is none.

    Args:
        s, lateral, speed: of the followers, (F, N).
        road_users: that they may follow, (L, N); the s of absent ones is NaN.
    """
    nearest, ahead_speed = xp.full_like(s, FREE), speed
    # One by one, because a table of all pairs would leave the processor's cache.
    for other_s, other_lateral, other_speed in zip(
        road_users.s, road_users.lateral, road_users.speed, strict=True
    ):
        distance = gap(xp, route, s, other_s)
        nearer = (distance > 0.0) & (distance < nearest) & (xp.abs(other_lateral - lateral) < SAME_LANE)
        nearest = xp.where(nearer, distance, nearest)
        ahead_speed = xp.where(nearer, other_speed, ahead_speed)
    closing = (speed - ahead_speed) * (0.5 / math.sqrt(ACCELERATION * COMFORT))
    wanted = STANDING_GAP + xp.maximum(speed * (headway + closing), 0.0)
    ratio = wanted / xp.maximum(nearest - 2 * HALF_LENGTH, 0.5)
    return xp.where(nearest < FREE, ratio * ratio, 0.0)


def drive(
    xp: Namespace,
    route: Route,
    drivers: Drivers,
    cars: RoadUsers,
    lane: Array,
    road_users: RoadUsers,
    turn: int,
) -> tuple[RoadUsers, Array]:
    """One control step of the traffic.

    Args:
        cars: the traffic, (K, N).
        lane: lateral position that each goes to, (K, N) [m].
        road_users: everyone that they may have to follow, themselves included, (L, N).
        turn: which of them may change lanes now.

    Returns:
        The traffic and its lanes after the step.
    """
    followers = cars.s, cars.lateral, cars.speed
    one = slice(turn, turn + 1)
    other_lane = route.lane_width - lane[one]  # (1, N)
    if route.left_lanes:  # one more follower: the car whose turn it is, as if on the other lane
        there = cars.s[one], other_lane, cars.speed[one]
        followers = tuple(xp.concat(pair) for pair in zip(followers, there, strict=True))
    near = interaction(xp, route, *followers, drivers.headway, road_users)
    eager = cars.speed / drivers.desired_speed
    eager = eager * eager
    acceleration = ACCELERATION * (1.0 - eager * eager - near[: len(lane)])
    speed = xp.maximum(cars.speed + DT * clip(xp, acceleration, -HARDEST, ACCELERATION), 0.0)
    if route.left_lanes:
        gain = near[one] - near[-1:]
        ahead = gap(xp, route, cars.s[one], road_users.s)  # (L, N)
        beside = xp.abs(road_users.lateral - other_lane) < SAME_LANE
        blocks = (ahead < ROOM_AHEAD) & (ahead > -ROOM_BEHIND) & beside
        change = (gain > drivers.patience) & ~xp.any(blocks, axis=0)
        lane = xp.concat([lane[:turn], xp.where(change, other_lane, lane[one]), lane[turn + 1 :]])
    drift = clip(xp, (lane - cars.lateral) / DT, -CHANGE_SPEED, CHANGE_SPEED)
    moved = cars._replace(s=cars.s + DT * speed, lateral=cars.lateral + DT * drift, speed=speed, drift=drift)
    return moved, lane


def everyone(xp: Namespace, road_users: RoadUsers, s: Array, lateral: Array, speed: Array) -> RoadUsers:
    """All road users and our car, (K + 1, N), as a driver may have to follow them; absent ones are nowhere."""
    one = s[None] * 0.0
    return RoadUsers(
        s=xp.concat([xp.where(road_users.kind > 0.0, road_users.s, math.nan), s[None]]),
        lateral=xp.concat([road_users.lateral, lateral[None]]),
        speed=xp.concat([road_users.speed, speed[None]]),
        drift=xp.concat([road_users.drift, one]),
        kind=xp.concat([road_users.kind, one + VEHICLE]),
    )
