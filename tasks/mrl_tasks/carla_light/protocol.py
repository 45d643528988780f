"""Encoding of CARLA 0.9.16's messages: responses of calls, stream tokens, and stream messages.

Calls are msgpack-rpc over TCP; a type of CARLA's `rpc` namespace travels as the array of its fields. Streams are packed
little-endian structs behind a length. Facts come from LibCarla's sources and from the 0.9.16 wheel: its struct sizes,
and what the real client accepts. 0.10 packs actors otherwise, so the version is pinned.
"""

from __future__ import annotations

import struct
from typing import Any

from mrl_bench.errors import MissingPart

try:
    import msgpack
except ImportError:
    raise MissingPart("the light server needs msgpack: pip install 'mrl-bench[carla]'") from None

VERSION = "0.9.16"
HOST = "127.0.0.1"

WORLD_STREAM = 1  # the stream of snapshots; those of sensors follow
WORLD_OBSERVER, COLLISION = 17, 0  # index of a sensor's data in the client's `SensorRegistry`

_TOKEN = struct.Struct("<IHBB16s")  # stream, port, protocol (1 is TCP), kind of address (1 is IPv4), address
_SENSOR = struct.Struct("<QQd6f")  # kind, frame, time [s], transform of the sensor
_EPISODE = struct.Struct("<Qdf3ii")  # id, wall clock [s], delta [s], origin of the map, simulation's state
_ACTOR = struct.Struct("<IB6f3f3f3f")  # id, state, transform, velocity, angular velocity, acceleration
_ACTIVE = 1
_STATE_SIZE = 54  # bytes of a union that differs by kind of actor
_VEHICLE = struct.Struct("<3f3?ifB?I")  # control (7 fields), speed limit, light state, has a light, light id
_WALKER = struct.Struct("<3ff?")  # direction, speed, jump
_LIGHT = struct.Struct("<32s4fI?B")  # sign id, green, yellow, red, elapsed [s], pole, frozen, state


def pack(value: Any) -> bytes:
    """In msgpack."""
    packed: bytes = msgpack.packb(value)
    return packed


def unpacker() -> Any:
    """Of a stream of msgpack: `feed` it, and iterate. Raises ValueError on what is none."""
    return msgpack.Unpacker(raw=False, strict_map_key=False, unicode_errors="surrogateescape")


def answer(value: Any) -> list[Any]:
    """A `Response<T>` that holds a value."""
    return [[1, value]]


def done() -> list[Any]:
    """A `Response<void>` without an error."""
    return [[False]]


def refusal(message: str, answers: bool) -> list[Any]:
    """A response that holds an error; the client raises it. `answers`: of `Response<T>`, else `Response<void>`."""
    return [[0 if answers else True, [message]]]


def token(stream: int, port: int) -> bytes:
    """The token that tells the client where a stream is."""
    return _TOKEN.pack(stream, port, 1, 1, bytes(map(int, HOST.split("."))))


def sensor_header(kind: int, frame: int, seconds: float, transform: tuple[float, ...]) -> bytes:
    """Header of a sensor's messages. The transform: x, y, z [m], pitch, yaw, roll [deg]."""
    return _SENSOR.pack(kind, frame, seconds, *transform)


def episode_header(episode: int, wall_clock: float, delta: float) -> bytes:
    """Header of a snapshot, before its actors."""
    return _EPISODE.pack(episode, wall_clock, delta, 0, 0, 0, 0)


def actor_state(
    actor: int,
    transform: tuple[float, ...],
    velocity: tuple[float, ...],
    angular_velocity: tuple[float, ...],
    acceleration: tuple[float, ...],
    state: bytes = b"",
) -> bytes:
    """An actor in a snapshot: metres, seconds and degrees in CARLA's left-handed axes; `state` by its kind."""
    motion = _ACTOR.pack(actor, _ACTIVE, *transform, *velocity, *angular_velocity, *acceleration)
    return motion + state.ljust(_STATE_SIZE, b"\0")


def vehicle_state(control: list[Any], speed_limit: float, light: tuple[int, bool, int]) -> bytes:
    """Args: a `VehicleControl`, a limit [km/h], and the light that the vehicle is at: its state, if any, its id."""
    return _VEHICLE.pack(*control, speed_limit, *light)


def walker_state(control: list[Any]) -> bytes:
    """Args: a `WalkerControl`."""
    direction, speed, jump = control
    return _WALKER.pack(*direction, speed, jump)


def light_state(
    sign: str, green: float, yellow: float, red: float, elapsed: float, frozen: bool, state: int
) -> bytes:
    """Args: the OpenDRIVE signal's id, three durations and the time in the present state [s]."""
    return _LIGHT.pack(sign.encode()[:31], green, yellow, red, elapsed, 0, frozen, state)


def episode_settings() -> list[Any]:
    """`EpisodeSettings` as a server starts with: asynchronous, variable delta, 10 sub-steps of 10 ms at most."""
    return [False, False, [False], True, 0.01, 10, 0.0, True, 3000.0, 2000.0, True]


def is_synchronous(settings: list[Any]) -> bool:
    """Of `EpisodeSettings`."""
    return bool(settings[0])


def fixed_delta(settings: list[Any]) -> float | None:
    """Seconds a tick, of `EpisodeSettings`; None if variable."""
    return float(settings[2][1]) if settings[2][0] else None
