"""Actors of the light server's world. Motion is in CARLA's axes, as it is sent: metres, seconds, degrees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mrl_tasks.carla_light import protocol
from mrl_tasks.carla_light.blueprints import NOMINAL_FRICTION, size_of
from mrl_tasks.carla_light.errors import Refused
from mrl_tasks.driving.carla.axes import Transform

Triple = tuple[float, float, float]
_ZERO: Triple = (0.0, 0.0, 0.0)

RED, YELLOW, GREEN = 0, 1, 2  # `TrafficLightState`
_LIGHT_REACH = 12.0  # [m] before its stop line, within which a vehicle is "at" a light


class Actor:
    """An actor with an id and a transform, which does not move."""

    solid = False  # whether other actors collide with it
    tag = 0  # `CityObjectLabel`: what a camera would call it

    def __init__(self, number: int, description: list[Any], transform: Transform, parent: int) -> None:
        self.id, self.parent, self.description = number, parent, description
        self.kind: str = description[1]
        self.size = size_of(self.kind)
        self.transform = transform
        self.velocity = self.angular_velocity = self.acceleration = _ZERO

    def attribute(self, name: str, default: str) -> str:
        """An attribute of the blueprint, as the client set it."""
        return next((value for key, _, value in self.description[2] if key == name), default)

    def box(self) -> list[Any]:
        """A `BoundingBox`: centre, half edges and rotation relative to the actor, and its id."""
        return [[0.0, 0.0, self.size.height], list(self.size), [0.0, 0.0, 0.0], self.id]

    def place(self, transform: Transform) -> None:
        """Teleports it."""
        self.transform = transform

    def push(self, velocity: Triple) -> None:
        """Sets its velocity [m/s]."""
        self.velocity = velocity

    def advance(self, delta: float) -> None:
        """Moves it by a tick of `delta` seconds."""

    def state(self, lights: Sequence[TrafficLight]) -> bytes:
        """The part of a snapshot that depends on the kind of actor."""
        return b""


class Walker(Actor):
    """A pedestrian, which walks in the direction and at the speed of its control."""

    solid, tag = True, 12

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.control: list[Any] = [[1.0, 0.0, 0.0], 0.0, False]  # a `WalkerControl`: direction, speed, jump

    def advance(self, delta: float) -> None:
        (dx, dy, _), speed, _ = self.control
        length = math.hypot(dx, dy)
        if speed > 0.0 and length > 0.0:
            self.velocity = (speed * dx / length, speed * dy / length, 0.0)
            x, y = self.transform.x + delta * self.velocity[0], self.transform.y + delta * self.velocity[1]
            self.transform = self.transform._replace(x=x, y=y, yaw=math.degrees(math.atan2(dy, dx)))
        else:
            self.velocity = _ZERO

    def state(self, lights: Sequence[TrafficLight]) -> bytes:
        return protocol.walker_state(self.control)


class Prop(Actor):
    """A solid, fixed object."""

    solid, tag = True, 20


class Sensor(Actor):
    """Follows its parent, and has a stream."""

    stream = 0


class FrictionPatch(Actor):
    """`static.trigger.friction`: a box in which all tyres have its friction."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        try:
            self.friction = float(self.attribute("friction", str(NOMINAL_FRICTION)))
            # CARLA reads these three in centimetres.
            self._reach = [float(self.attribute(f"extent_{axis}", "10.0")) / 100.0 for axis in "xy"]
        except ValueError as error:
            raise Refused(f"static.trigger.friction: {error}") from None

    def covers(self, actor: Actor) -> bool:
        """Whether an actor's origin is inside."""
        dx, dy = actor.transform.x - self.transform.x, actor.transform.y - self.transform.y
        return abs(dx) <= self._reach[0] and abs(dy) <= self._reach[1]


class TrafficLight(Actor):
    """Cycles through green, yellow and red unless it is frozen."""

    tag = 7

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.sign = ""  # id of its OpenDRIVE signal
        self.stops: Sequence[Transform] = ()  # where cars stop for it, one for each lane
        self.colour, self.elapsed, self.frozen = GREEN, 0.0, False
        self.durations = {GREEN: 10.0, YELLOW: 3.0, RED: 2.0}  # [s] CARLA's

    def show(self, colour: int) -> None:
        self.colour, self.elapsed = colour, 0.0

    def advance(self, delta: float) -> None:
        if not self.frozen:
            self.elapsed += delta
            if self.elapsed > self.durations.get(self.colour, math.inf) - delta / 2.0:  # the nearest tick
                self.show({GREEN: YELLOW, YELLOW: RED, RED: GREEN}[self.colour])

    def holds(self, actor: Actor) -> bool:
        """Whether an actor approaches one of its stop lines."""
        x, y, yaw = actor.transform.x, actor.transform.y, actor.transform.yaw
        for stop in self.stops:
            angle = math.radians(stop.yaw)
            dx, dy = stop.x - x, stop.y - y
            ahead = dx * math.cos(angle) + dy * math.sin(angle)
            aside = dy * math.cos(angle) - dx * math.sin(angle)
            turned = abs((stop.yaw - yaw + 180.0) % 360.0 - 180.0)
            if 0.0 <= ahead <= _LIGHT_REACH and abs(aside) < 2.0 and turned < 45.0:
                return True
        return False

    def state(self, lights: Sequence[TrafficLight]) -> bytes:
        times = (self.durations[GREEN], self.durations[YELLOW], self.durations[RED], self.elapsed)
        return protocol.light_state(self.sign, *times, self.frozen, self.colour)
