"""Contacts between actors, and their impulses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mrl_tasks.carla_light.actors import Actor
from mrl_tasks.carla_light.vehicles import Vehicle
from mrl_tasks.driving import scalars
from mrl_tasks.driving.geometry import Box, overlap


class Contact(NamedTuple):
    """Two boxes that overlap. `impulse` [N s] acts on `one`, its opposite on `other`."""

    one: Actor
    other: Actor
    impulse: tuple[float, float]

    def sides(self) -> Iterator[tuple[Actor, Actor, list[float]]]:
        """For each of the two: itself, the other, and the impulse on itself."""
        x, y = self.impulse
        yield self.one, self.other, [x, y, 0.0]
        yield self.other, self.one, [-x, -y, 0.0]

    def act(self) -> None:
        """Applies the impulse to those that are vehicles; it changes their velocity in the next tick."""
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
    near = np.triu(between < reach[:, None] + reach, k=1)  # circles first: they are cheaper than boxes
    for i, j in np.argwhere(near).tolist():
        if touch(solids[i], solids[j]):
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
    """Radius of the circle around its box [m]."""
    return math.hypot(actor.size.length, actor.size.width)


def _mass(actor: Actor) -> float:
    """Mass [kg]; infinite for actors that are placed by a script or fixed."""
    if isinstance(actor, Vehicle):
        return actor.mass if actor.simulated else math.inf
    return 75.0 if actor.kind.startswith("walker.") else math.inf


def touch(one: Actor, other: Actor) -> bool:
    """Whether the boxes of two actors overlap on the ground."""
    return bool(overlap(scalars, _box(one), _box(other)))


def _box(actor: Actor) -> Box:
    yaw, (length, width, *_) = math.radians(actor.transform.yaw), actor.size
    return Box(*actor.transform[:2], math.cos(yaw), math.sin(yaw), length, width)
