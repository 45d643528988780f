"""What can be spawned: `ActorDefinition`s of the light server, a small part of CARLA's library."""

from __future__ import annotations

from typing import Any, NamedTuple

_BOOL, _INT, _FLOAT, _STRING, _COLOUR = range(1, 6)  # `ActorAttributeType`, as the client numbers it


class Size(NamedTuple):
    """Half the edges of a bounding box [m]."""

    length: float
    width: float
    height: float


# Near those of CARLA's own blueprints, but ours: a client asks for an actor's box instead of knowing it.
_VEHICLES = {
    "vehicle.tesla.model3": Size(2.40, 1.00, 0.74),
    "vehicle.audi.tt": Size(2.09, 1.00, 0.69),
    "vehicle.lincoln.mkz_2017": Size(2.45, 1.06, 0.76),
    "vehicle.nissan.patrol": Size(2.30, 0.97, 0.93),
    "vehicle.carlamotors.firetruck": Size(4.23, 1.45, 1.91),
}
_WALKERS = {f"walker.pedestrian.{i:04d}": Size(0.30, 0.30, 0.93) for i in range(1, 5)}
_PROPS = {"static.prop.streetbarrier": Size(0.61, 0.19, 0.54)}
_SENSORS = ("sensor.other.collision", "sensor.other.lane_invasion")  # the client computes the second itself

NOMINAL_FRICTION = 3.5  # a tyre's on dry asphalt, in CARLA's unit


def size_of(kind: str) -> Size:
    """The bounding box of a blueprint; that of a point if it has none."""
    return (_VEHICLES | _WALKERS | _PROPS).get(kind, Size(0.0, 0.0, 0.0))


def _attribute(name: str, kind: int, value: str, choices: tuple[str, ...] = (), fixed: bool = False) -> Any:
    return [name, kind, value, list(choices), not fixed, False]


def definitions() -> list[Any]:
    """All blueprints as `ActorDefinition`s: uid, id, tags, attributes."""
    role = _attribute("role_name", _STRING, "autopilot")
    found: dict[str, list[Any]] = {}
    for kind in _VEHICLES:
        found[kind] = [
            _attribute("number_of_wheels", _INT, "4", fixed=True),
            _attribute("base_type", _STRING, "truck" if "truck" in kind else "car", fixed=True),
            _attribute("color", _COLOUR, "17,37,103", ("17,37,103", "180,44,44", "228,228,228")),
            _attribute("sticky_control", _BOOL, "true"),
            role,
        ]
    for kind in _WALKERS:
        found[kind] = [
            _attribute("age", _STRING, "adult", fixed=True),
            _attribute("is_invincible", _BOOL, "true"),
            _attribute("speed", _FLOAT, "1.4", ("0.0", "1.4", "2.6")),
            role,
        ]
    for kind in (*_PROPS, *_SENSORS):
        found[kind] = [role]
    box = [_attribute(f"extent_{axis}", _FLOAT, "10.0") for axis in "xyz"]
    found["static.trigger.friction"] = [_attribute("friction", _FLOAT, str(NOMINAL_FRICTION)), *box, role]
    return [
        [uid, kind, kind.replace(".", ","), attributes]
        for uid, (kind, attributes) in enumerate(found.items(), start=1)
    ]
