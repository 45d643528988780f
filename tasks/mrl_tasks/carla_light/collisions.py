"""Which bodies touch, and with what impulse."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mrl_tasks.carla_light.actors import Actor
from mrl_tasks.carla_light.vehicles import Vehicle


class Contact(NamedTuple):
    """Two boxes that overlap. `impulse` [N s] acts on `one`, its opposite on `other`."""

    one: Actor
    other: Actor
    impulse: tuple[float, float]

    def sides(self) -> Iterator[tuple[Actor, Actor, list[float]]]:
        """As each of the two sees it: me, the other, the impulse on me."""
        x, y = self.impulse
        yield self.one, self.other, [x, y, 0.0]
        yield self.other, self.one, [-x, -y, 0.0]

    def act(self) -> None:
        """Hands the impulse to the vehicles among the two; it changes their velocity in the next tick."""
        for me, _, (x, y, _) in self.sides():
            if isinstance(me, Vehicle):
                me.add_impulse((x, y, 0.0))


def contacts(solids: list[Actor]) -> Iterator[Contact]:
    """All pairs that overlap, in the order of the list."""
    if len(solids) < 2:
        return
    places = np.array([actor.transform[:2] for actor in solids])
    reach = np.array([_radius(actor) for actor in solids])
    between = np.hypot(*(places[:, None] - places[None]).T)
    near = np.triu(between < reach[:, None] + reach, k=1)  # circles first: that leaves few boxes to look at
    for i, j in np.argwhere(near).tolist():
        if overlap(solids[i], solids[j]):
            yield Contact(solids[i], solids[j], _impulse(solids[i], solids[j]))


def _impulse(one: Actor, other: Actor) -> tuple[float, float]:
    """Of a perfectly inelastic collision along the line between the two centres; 0 if they move apart."""
    dx, dy = other.transform.x - one.transform.x, other.transform.y - one.transform.y
    distance = math.hypot(dx, dy) or 1.0
    nx, ny = dx / distance, dy / distance
    closing = (one.velocity[0] - other.velocity[0]) * nx + (one.velocity[1] - other.velocity[1]) * ny
    lightness = sum(1.0 / _mass(actor) for actor in (one, other))
    size = max(closing, 0.0) / lightness if lightness > 0.0 else 0.0
    return -size * nx, -size * ny


def _radius(actor: Actor) -> float:
    """Of the circle around its box [m]."""
    return math.hypot(actor.size.length, actor.size.width)


def _mass(actor: Actor) -> float:
    """In kg; infinite for what is driven by a script or stands fast."""
    if isinstance(actor, Vehicle):
        return actor.mass if actor.simulated else math.inf
    return 75.0 if actor.kind.startswith("walker.") else math.inf


def overlap(one: Actor, other: Actor) -> bool:
    """Whether two boxes on the ground overlap: no axis separates them (Gottschalk, Lin & Manocha 1996)."""
    dx, dy = other.transform.x - one.transform.x, other.transform.y - one.transform.y
    if math.hypot(dx, dy) >= _radius(one) + _radius(other):
        return False
    yaws = math.radians(one.transform.yaw), math.radians(other.transform.yaw)
    for yaw in yaws:
        for axis in (yaw, yaw + math.pi / 2.0):
            reach = sum(
                actor.size.length * abs(math.cos(turn - axis)) + actor.size.width * abs(math.sin(turn - axis))
                for actor, turn in zip((one, other), yaws, strict=True)
            )
            if abs(dx * math.cos(axis) + dy * math.sin(axis)) >= reach:
                return False
    return True
