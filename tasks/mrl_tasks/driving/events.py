"""Unforeseen events: a road user or a traffic light acts once our car comes near. Each event is a row of `TABLE`.

Modelled on scenarios of CARLA's ScenarioRunner and leaderboard (HardBreakRoute, StaticCutIn, DynamicObjectCrossing,
ParkedObstacle, OppositeVehicle...); distances and speeds are ours.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrl_tasks.driving.family import EVENTS
from mrl_tasks.driving.geometry import Route, gap
from mrl_tasks.driving.road_users import ABSENT, PEDESTRIAN, VEHICLE
from mrl_tasks.driving.vehicle import DT, Array, Namespace, clip

RED_TIME = 5.0  # [s]


class Event(NamedTuple):
    """A road user starts at `gap`, moves at `speed`, and changes its motion at the trigger."""

    kind: float
    gap: float  # [m] ahead of our car at the start; of a red light, its stop line
    lateral: float  # [m] to the left of our lane
    speed: float  # share of the target speed, negative if oncoming
    trigger: float  # [m] gap at which its motion changes
    then_lateral: float  # [m] lateral position that it moves to
    drift: float  # [m/s] lateral speed of that move
    then_speed: float  # share of the target speed after the trigger
    change: float  # [m/s^2] acceleration to `then_speed`


TABLE = {
    "none": Event(ABSENT, 1e3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "lead_hard_brake": Event(VEHICLE, 24.0, 0.0, 0.75, 18.0, 0.0, 0.0, 0.0, 8.0),
    "cut_in": Event(VEHICLE, 14.0, 3.5, 0.7, 10.0, 0.0, 1.8, 0.5, 3.0),
    "jaywalking_pedestrian": Event(PEDESTRIAN, 36.0, -3.2, 0.0, 18.0, 6.0, 2.0, 0.0, 0.0),
    "stalled_vehicle": Event(VEHICLE, 36.0, -0.8, 0.0, 0.0, -0.8, 0.0, 0.0, 0.0),
    "oncoming_overtaker": Event(VEHICLE, 65.0, 0.0, -0.8, 38.0, 3.5, 1.2, -0.8, 0.0),
    "red_light": Event(ABSENT, 40.0, 0.0, 0.0, 30.0, 0.0, 0.0, 0.0, 0.0),
}


class Script(NamedTuple):
    """The event of each instance, (N,), in metres and m/s. Severity brings it closer and triggers it later."""

    kind: Array
    gap: Array
    lateral: Array
    speed: Array
    trigger: Array
    then_lateral: Array
    drift: Array
    then_speed: Array
    change: Array
    light: Array  # bool: there is a traffic light at `gap`


def write(
    kind: NDArray[np.float64],
    severity: NDArray[np.float64],
    distance: NDArray[np.float64],
    target_speed: NDArray[np.float64],
) -> Script:
    """Scripts of tasks, (B,).

    Args:
        kind: codes of `EVENTS`.
        severity: 0 to 1.
        distance: [m] that a car drives at the target speed before the gap has the length of `TABLE`.
        target_speed: [m/s].
    """
    rows = np.array([TABLE[name] for name in EVENTS])[kind.astype(int)].T
    event = Event(*rows)
    return Script(
        kind=event.kind,
        gap=event.gap * (1.0 - 0.2 * severity) + distance * (1.0 - event.speed),
        lateral=event.lateral,
        speed=event.speed * target_speed,
        trigger=event.trigger * (1.0 - 0.4 * severity),
        then_lateral=event.then_lateral,
        drift=event.drift,
        then_speed=event.then_speed * target_speed,
        change=event.change,
        light=kind == EVENTS.index("red_light"),
    )


class Part(NamedTuple):
    """State of the event's actor, (N,)."""

    s: Array  # [m]
    lateral: Array  # [m]
    speed: Array  # [m/s]
    drift: Array  # [m/s]


def play(
    xp: Namespace, route: Route, script: Script, part: Part, clock: Array, car_s: Array
) -> tuple[Part, Array]:
    """One control step. Args: clock: [s] since the trigger, 0 before it, (N,). Returns: part and clock after it."""
    triggered = (clock > 0.0) | (xp.abs(gap(xp, route, car_s, part.s)) < script.trigger)
    clock = xp.where(triggered, clock + DT, 0.0)
    change = xp.where(triggered, DT * script.change, 0.0)
    speed = part.speed + clip(xp, script.then_speed - part.speed, -change, change)
    most = xp.where(triggered, script.drift, 0.0)
    drift = clip(xp, (script.then_lateral - part.lateral) / DT, -most, most)
    return Part(part.s + DT * speed, part.lateral + DT * drift, speed, drift), clock


def is_red(script: Script, clock: Array) -> Array:
    """Whether there is a red light now, (N,) bool."""
    return script.light & (clock > 0.0) & (clock < RED_TIME)
