"""The world of the light server: its actors and the tick. The ground is flat: an actor keeps its height."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from mrl_tasks.carla_light import protocol
from mrl_tasks.carla_light.actors import Actor, FrictionPatch, Prop, Sensor, TrafficLight, Walker
from mrl_tasks.carla_light.collisions import Contact, contacts, touch
from mrl_tasks.carla_light.errors import Refused
from mrl_tasks.carla_light.maps import RoadMap
from mrl_tasks.carla_light.vehicles import Vehicle, advance
from mrl_tasks.driving.carla.axes import Transform

DEFAULT_DELTA = 0.05  # [s] a tick, where the client sets none

# Class of an actor by the prefix of its blueprint's name.
_KINDS: dict[str, type[Actor]] = {
    "vehicle.": Vehicle,
    "walker.": Walker,
    "static.prop.": Prop,
    "static.trigger.friction": FrictionPatch,
    "sensor.": Sensor,
    "traffic.traffic_light": TrafficLight,
    "spectator": Actor,
}

Send = Callable[..., None]  # `Streams.send`


class World:
    """A sequence of episodes, each on one map."""

    def __init__(self, road_map: RoadMap, send: Send, stream_port: int) -> None:
        self._send, self._stream_port = send, stream_port
        self.settings = protocol.episode_settings()
        self.weather: list[float] = [0.0] * 14
        self.frame, self.seconds, self.episode = 1, 0.0, 0
        self._next_stream = protocol.WORLD_STREAM + 1
        self.load(road_map)

    def load(self, road_map: RoadMap) -> None:
        """Begins an episode on a map, with the spectator and the map's traffic lights as its only actors."""
        self.map = road_map
        self.actors: dict[int, Actor] = {}
        self._next_id = 1
        self._touching: dict[tuple[int, int], Contact] = {}
        self.episode += 1
        self.frame += 1
        self.spectator = self.add([0, "spectator", []], Transform(0.0, 0.0))
        for signal in road_map.signals:
            light = self.add([0, "traffic.traffic_light", []], signal.transform)
            assert isinstance(light, TrafficLight)
            light.sign, light.stops = signal.id, signal.stops
        self._broadcast(DEFAULT_DELTA)

    def add(self, description: list[Any], transform: Transform, parent: int = 0) -> Actor:
        """Puts an actor into the world. Args: an `ActorDescription`: uid, blueprint, attributes."""
        actor = _make(self._next_id, description, transform, parent)
        if isinstance(actor, Sensor):
            actor.stream, self._next_stream = self._next_stream, self._next_stream + 1
        self._next_id += 1
        self.actors[actor.id] = actor
        return actor

    def spawn(self, description: list[Any], transform: Transform, parent: int = 0) -> Actor:
        """As `add`, for a client.

        Raises:
            Refused: there is no such blueprint or parent, or another body is in the way.
        """
        if parent:
            self.actor(parent)
        actor = _make(0, description, transform, parent)
        if actor.solid and any(touch(actor, other) for other in self._solids()):
            raise Refused("Spawn failed because of collision at spawn position")
        return self.add(description, transform, parent)

    def actor(self, number: int) -> Actor:
        """Raises: Refused: there is none of that id."""
        if number not in self.actors:
            raise Refused(f"there is no actor {number}: it may have been destroyed")
        return self.actors[number]

    def destroy(self, number: int) -> None:
        """Removes an actor. Attached actors stay where they are, as in CARLA."""
        self.actor(number)
        del self.actors[number]
        self._touching = {pair: contact for pair, contact in self._touching.items() if number not in pair}

    def describe(self, actor: Actor) -> list[Any]:
        """An `Actor` of CARLA's `rpc` namespace."""
        stream = protocol.token(actor.stream, self._stream_port) if isinstance(actor, Sensor) else b""
        return [actor.id, actor.parent, actor.description, actor.box(), bytes([actor.tag]), stream]

    def tick(self) -> int:
        """Advances all by one step of the client's fixed delta; returns the new frame."""
        delta = protocol.fixed_delta(self.settings) or DEFAULT_DELTA
        patches = [actor for actor in self.actors.values() if isinstance(actor, FrictionPatch)]
        vehicles = [actor for actor in self.actors.values() if isinstance(actor, Vehicle)]
        for vehicle in vehicles:
            vehicle.patch = next((patch.friction for patch in patches if patch.covers(vehicle)), None)
        advance(vehicles, delta)
        for actor in self.actors.values():
            actor.advance(delta)
        for actor in self.actors.values():
            if actor.parent in self.actors:
                actor.transform = self.actors[actor.parent].transform
        self.frame += 1
        self.seconds += delta
        self._collide()
        self._broadcast(delta)
        return self.frame

    def _solids(self) -> Iterator[Actor]:
        return (actor for actor in self.actors.values() if actor.solid)

    def _collide(self) -> None:
        """Sends every contact to collision sensors; new contacts change velocities from the next tick on."""
        now = {(c.one.id, c.other.id): c for c in contacts(list(self._solids()))}
        for pair, contact in now.items():
            if pair not in self._touching:
                contact.act()
        self._touching = now
        for sensor in self.actors.values():
            if isinstance(sensor, Sensor) and sensor.kind == "sensor.other.collision":
                for contact in now.values():
                    self._report(sensor, contact)

    def _report(self, sensor: Sensor, contact: Contact) -> None:
        for me, other, impulse in contact.sides():
            if me.id == sensor.parent:
                header = protocol.sensor_header(
                    protocol.COLLISION, self.frame, self.seconds, sensor.transform
                )
                event = protocol.pack([self.describe(me), self.describe(other), impulse])
                self._send(sensor.stream, header, event)

    def _broadcast(self, delta: float) -> None:
        lights = [actor for actor in self.actors.values() if isinstance(actor, TrafficLight)]
        still = tuple(Transform(0.0, 0.0))
        self._send(
            protocol.WORLD_STREAM,
            protocol.sensor_header(protocol.WORLD_OBSERVER, self.frame, self.seconds, still),
            protocol.episode_header(self.episode, time.time(), delta),
            *(
                protocol.actor_state(
                    actor.id,
                    actor.transform,
                    actor.velocity,
                    actor.angular_velocity,
                    actor.acceleration,
                    actor.state(lights),
                )
                for actor in self.actors.values()
            ),
            keep=True,  # a client that joins between ticks needs the positions
        )


def _make(number: int, description: list[Any], transform: Transform, parent: int) -> Actor:
    blueprint = str(description[1])
    for beginning, kind in _KINDS.items():
        if blueprint.startswith(beginning):
            return kind(number, description, transform, parent)
    raise Refused(f"there is no blueprint {blueprint!r}")
