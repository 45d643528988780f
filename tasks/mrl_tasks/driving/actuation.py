"""From an action to a car's actuators: scaling, reversal and misalignment. Arrays are (N,)."""

from __future__ import annotations

from typing import NamedTuple

from mrl_tasks.driving.vehicle import Array, Command, Namespace, clip


class Actuation(NamedTuple):
    gain: Array  # of the steering: its ratio, negative if it is reversed
    offset: Array  # share of the largest steering angle that is added


def command(xp: Namespace, actuation: Actuation, steer: Array, pedal: Array) -> Command:
    """The actuator command for the entries of an action, in [-1, 1], that arrives in this control step."""
    return Command(clip(xp, actuation.gain * steer + actuation.offset, -1.0, 1.0), pedal)
