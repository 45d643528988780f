"""Five manoeuvres of a server's car, and the parameters with which the embedded car matches them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq

from mrl_tasks.driving.carla.backend import connect
from mrl_tasks.driving.carla.client import CarlaWorld
from mrl_tasks.driving.carla.instance import CAR, Instance
from mrl_tasks.driving.carla.server import Address
from mrl_tasks.driving.vehicle import DT, STANDARD, Car, CarState, Command, step

# A straight road to drive on: 40 lanes of 4 m on either side, so that a circle fits on it.
_PLANE = """<?xml version="1.0"?><OpenDRIVE><header revMajor="1" revMinor="5" name="plane"/>
<road id="1" junction="-1" length="1000" rule="RHT"><planView><geometry s="0" x="-200" y="0" hdg="0" length="1000">
<line/></geometry></planView><lanes><laneSection s="0"><left>{left}</left><center><lane id="0" type="none"/></center>
<right>{right}</right></laneSection></lanes></road></OpenDRIVE>"""

_SECOND = round(1.0 / DT)  # ticks
Trace = list[CarState]  # after each tick
Drive = Callable[[float, list[Command]], Trace]  # from a speed [m/s] under commands, one a tick


class Manoeuvre(NamedTuple):
    """What is driven, what is measured, and the parameter that it identifies."""

    name: str
    speed: float  # [m/s] at the start
    command: Command
    seconds: float
    measure: Callable[[Trace], float]
    unit: str
    fields: tuple[str, ...]  # of `Car`, which change together
    low: float  # bounds of their value
    high: float


class Match(NamedTuple):
    """Result of a manoeuvre on a server."""

    manoeuvre: Manoeuvre
    server: float  # what the server's car did
    embedded: float  # what `STANDARD` does
    # Of the fields, such that the embedded car does what the server's does; None: no value does.
    value: float | None


def _speed(trace: Trace) -> float:
    return math.hypot(trace[-1].vx, trace[-1].vy)


def _distance(trace: Trace) -> float:
    return math.hypot(trace[-1].x - trace[0].x, trace[-1].y - trace[0].y)


def _late_yaw_rate(trace: Trace) -> float:
    """Mean over the last second."""
    return float(np.mean([state.yaw_rate for state in trace[-_SECOND:]]))


def _radius(trace: Trace) -> float:
    """Of the circle in the last second: path over angle."""
    path = sum(math.hypot(state.vx, state.vy) for state in trace[-_SECOND:])
    turn = sum(float(state.yaw_rate) for state in trace[-_SECOND:])
    return path / max(abs(turn), 1e-6)


# Ordered so that each parameter hardly depends on those after it.
MANOEUVRES = (
    Manoeuvre("coast down", 25.0, Command(0.0, 0.0), 8.0, _speed, "m/s", ("drag",), 0.0, 5.0),
    Manoeuvre("pull away", 0.0, Command(0.0, 0.5), 5.0, _speed, "m/s", ("drive_force",), 500.0, 30000.0),
    Manoeuvre(
        "brake", 20.0, Command(0.0, -1.0), 8.0, _distance, "m", ("friction_front", "friction_rear"), 0.1, 4.0
    ),
    Manoeuvre("circle", 4.0, Command(0.5, 0.15), 6.0, _radius, "m", ("max_steer",), 0.1, 1.4),
    Manoeuvre(
        "step steer", 15.0, Command(0.08, 0.1), 4.0, _late_yaw_rate, "rad/s", ("mass_offset",), -0.8, 0.8
    ),
)


def calibrate(server: Address) -> list[Match]:
    """Drives on the server.

    Raises:
        MissingPart: it does not answer.
    """
    return match(partial(_on_server, connect(server)))


def match(drive: Drive) -> list[Match]:
    """For each manoeuvre the value with which the embedded car does what `drive` did, given the matches before it."""
    matched, found = STANDARD, list[Match]()
    for manoeuvre in MANOEUVRES:
        commands = [manoeuvre.command] * round(manoeuvre.seconds / DT)
        seen = manoeuvre.measure(drive(manoeuvre.speed, commands))

        def miss(value: float, m: Manoeuvre = manoeuvre, car: Car = matched, seen: float = seen) -> float:
            changed = car._replace(**dict.fromkeys(m.fields, value))
            return m.measure(embedded(changed, m.speed, [m.command] * round(m.seconds / DT))) - seen

        ends = miss(manoeuvre.low), miss(manoeuvre.high)
        value = None
        if ends[0] * ends[1] <= 0.0:
            value = float(brentq(miss, manoeuvre.low, manoeuvre.high, xtol=1e-4))
            matched = matched._replace(**dict.fromkeys(manoeuvre.fields, value))
        standard = manoeuvre.measure(embedded(STANDARD, manoeuvre.speed, commands))
        found.append(Match(manoeuvre, seen, standard, value))
    return found


def embedded(car: Car, speed: float, commands: list[Command]) -> Trace:
    """The embedded car, from rest or already moving."""
    state, trace = CarState(0.0, 0.0, 0.0, speed, 0.0, 0.0, 0.0, 0.0), []
    for command in commands:
        state = step(np, state, car, command, 0.0, 0.0)
        trace.append(state)
    return trace


def _on_server(world: CarlaWorld, speed: float, commands: list[Command]) -> Trace:
    """The server's own car."""
    lanes = "".join(
        f'<lane id="{{}}{i}" type="driving"><width sOffset="0" a="4" b="0" c="0" d="0"/></lane>'
        for i in range(1, 41)
    )
    world.load(_PLANE.format(left=lanes.replace("{}", ""), right=lanes.replace("{}", "-")))
    instance = Instance(world, (0.0, 0.0, 0.0), STANDARD)
    state, trace = CarState(0.0, 0.0, 0.0, speed, 0.0, 0.0, 0.0, 0.0), []
    instance.car = world.spawn(CAR, [instance.place(state)])[0]
    instance.dress(world.physics(instance.car))
    world.tick()
    for command in commands:
        instance.drive(state, command, (0.0, 0.0))
        world.tick()
        state = instance.state(state, command)
        trace.append(state)
    world.clear()
    return trace


def report(matches: list[Match]) -> str:
    """A table: what was measured, and the parameters that match."""
    rows = [("manoeuvre", "measured", "server", "embedded", "parameter", "match", "standard")]
    for manoeuvre, server, own, value in matches:
        shown = "none fits" if value is None else f"{value:.4g}"
        fields, standard = " = ".join(manoeuvre.fields), getattr(STANDARD, manoeuvre.fields[0])
        rows.append(
            (manoeuvre.name, manoeuvre.unit, f"{server:.4g}", f"{own:.4g}", fields, shown, f"{standard:.4g}")
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
