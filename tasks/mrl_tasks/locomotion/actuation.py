"""From an agent's commands to a robot's actuators: delayed, permuted or disabled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_bench.types import TaskBatch
from mrl_tasks.locomotion.physics import dead_actuators
from mrl_tasks.locomotion.robots import Robot


class Actuation:
    """For N = B x E robots with A actuators each. Effects that no task uses are skipped."""

    def __init__(
        self, robot: Robot, tasks: TaskBatch, episodes: int, constant: Callable[[NDArray[Any]], Any]
    ) -> None:
        """`constant` brings an array of numpy to where, and to what, the controls are to be."""
        actuators, slots = len(robot.actuators), len(tasks) * episodes
        shift = tasks.column("actuator_shift").astype(int)[:, None]
        delay = tasks.column("action_delay").astype(int)
        dead = dead_actuators(robot, tasks)

        def of_slots(values: NDArray[Any]) -> Any:
            return constant(values.repeat(episodes, 0))

        self._limit = constant(np.array([robot.control_limit]))
        # (N, A) which command drives each actuator, and 0 for the actuators that give no torque
        self._source = of_slots((np.arange(actuators) - shift) % actuators) if shift.any() else None
        self._force = of_slots(1.0 - dead) if dead.any() else None
        self._delay = of_slots(delay)  # (N,) control steps
        self._slots = constant(np.arange(slots))
        # A ring of the commands that are under way to some robot, the newest included.
        self._sent = constant(np.zeros((int(delay.max()) + 1, slots, actuators)))

    def reset(self) -> None:
        """Empties the delay lines: until a command arrives the controls are 0."""
        self._sent[:] = 0.0
        self._t = 0

    def control(self, action: Any) -> Any:
        """What reaches the actuators now, (N, A), when this action is taken, (N, A) in [-1, 1]."""
        control = self._arriving(action.clip(-1.0, 1.0) * self._limit)
        if self._source is not None:
            control = control[self._slots[:, None], self._source]
        if self._force is not None:
            control = control * self._force
        return control

    def _arriving(self, command: Any) -> Any:
        line = len(self._sent)
        if line == 1:
            return command
        self._sent[self._t % line] = command
        arriving = self._sent[(self._t - self._delay) % line, self._slots]
        self._t += 1
        return arriving
