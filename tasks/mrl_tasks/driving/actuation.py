"""From an action to a car's actuators: scaling, reversal, misalignment and delay. Arrays are (N,)."""

from __future__ import annotations

from typing import NamedTuple

from mrl_tasks.driving.vehicle import Array, Command, Namespace, clip


class Actuation(NamedTuple):
    gain: Array  # of the steering: its ratio, negative if it is reversed
    offset: Array  # share of the largest steering angle that is added
    delay: Array  # [control steps], whole numbers


def command(xp: Namespace, actuation: Actuation, steer: Array, pedal: Array) -> Command:
    """The command to the actuators when these entries of an action, in [-1, 1], arrive."""
    return Command(clip(xp, actuation.gain * steer + actuation.offset, -1.0, 1.0), pedal)


class DelayLine(NamedTuple):
    """Actions that have not reached the actuators yet."""

    steer: Array  # (D + 1, N), D the longest delay; the newest comes first
    pedal: Array

    def send(self, xp: Namespace, steer: Array, pedal: Array, delay: Array) -> tuple[DelayLine, Array, Array]:
        """Queues an action; returns the new line, and the steering and pedal that arrive in this step."""
        if len(self.steer) == 1:
            return self, steer, pedal
        line = DelayLine(xp.concat([steer[None], self.steer[:-1]]), xp.concat([pedal[None], self.pedal[:-1]]))
        arriving = steer, pedal
        for steps in range(1, len(self.steer)):
            due = delay == steps
            arriving = (
                xp.where(due, line.steer[steps], arriving[0]),
                xp.where(due, line.pedal[steps], arriving[1]),
            )
        return line, *arriving
