"""From an action to the actuators of a car: scaled, reversed, misaligned, and late. Arrays are (N,)."""

from __future__ import annotations

from typing import NamedTuple

from mrl_tasks.driving.vehicle import Array, Command, Namespace, clip


class Wiring(NamedTuple):
    gain: Array  # of the steering: its ratio, negative if it is reversed
    offset: Array  # share of the largest steering angle that is added
    delay: Array  # [control steps], whole numbers


def command(xp: Namespace, wiring: Wiring, steer: Array, pedal: Array) -> Command:
    """What the actuators are told where these entries of an action, in [-1, 1], arrive."""
    return Command(clip(xp, wiring.gain * steer + wiring.offset, -1.0, 1.0), pedal)


class Line(NamedTuple):
    """Actions that are under way."""

    steer: Array  # (D + 1, N), D the longest delay; the newest comes first
    pedal: Array

    def send(self, xp: Namespace, steer: Array, pedal: Array, delay: Array) -> tuple[Line, Array, Array]:
        """Sends an action on its way: the line after that, and the action that arrives."""
        if len(self.steer) == 1:
            return self, steer, pedal
        line = Line(xp.concat([steer[None], self.steer[:-1]]), xp.concat([pedal[None], self.pedal[:-1]]))
        arriving = steer, pedal
        for steps in range(1, len(self.steer)):
            due = delay == steps
            arriving = (
                xp.where(due, line.steer[steps], arriving[0]),
                xp.where(due, line.pedal[steps], arriving[1]),
            )
        return line, *arriving
