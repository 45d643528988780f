"""Turns actions into the controls of actuators: with delay, permutation and disabled joints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_bench.types import TaskBatch
from mrl_tasks.delay import DelayLine
from mrl_tasks.locomotion.physics import disabled_actuators
from mrl_tasks.locomotion.robots import Robot


class Actuation:
    """The actuators of N = B x E robots, A each. Effects that no task uses are skipped."""

    def __init__(
        self, robot: Robot, tasks: TaskBatch, episodes: int, constant: Callable[[NDArray[Any]], Any]
    ) -> None:
        """`constant` turns a numpy array into an array on the device of the controls, in their precision."""
        actuators, instances = len(robot.actuators), len(tasks) * episodes
        shift = tasks.column("actuator_shift").astype(int)[:, None]
        disabled = disabled_actuators(robot, tasks)

        def of_instances(values: NDArray[Any]) -> Any:
            return constant(values.repeat(episodes, 0))

        self._limit = constant(np.array([robot.control_limit]))
        # (N, A) the command that drives each actuator; and 0 for disabled actuators, else 1
        self._source = of_instances((np.arange(actuators) - shift) % actuators) if shift.any() else None
        self._force = of_instances(1.0 - disabled) if disabled.any() else None
        self._rows = constant(np.arange(instances))
        delay = tasks.column("action_delay").repeat(episodes)
        self._delay_line = DelayLine(delay, constant(np.zeros((instances, actuators))))

    def reset(self) -> None:
        """Drops delayed commands. The controls are 0 until the first command arrives."""
        self._delay_line.reset()

    def control(self, action: Any) -> Any:
        """The controls that reach the actuators in this step, (N, A), given its action, (N, A) in [-1, 1]."""
        control = self._delay_line.send(action.clip(-1.0, 1.0) * self._limit)
        if self._source is not None:
            control = control[self._rows[:, None], self._source]
        if self._force is not None:
            control = control * self._force
        return control
