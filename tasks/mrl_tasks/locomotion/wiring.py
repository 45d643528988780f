"""From the commands of an agent to the controls of a robot's actuators: late, crossed, or cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrl_bench.types import TaskBatch
from mrl_tasks.locomotion.physics import dead_actuators
from mrl_tasks.locomotion.robots import Robot


class Wiring:
    """Of N = B x E robots with A actuators each. What no task asks for costs nothing."""

    def __init__(self, robot: Robot, tasks: TaskBatch, episodes: int, like: Tensor) -> None:
        """`like` has the device and the dtype of the controls."""
        actuators = len(robot.actuators)
        shift = tasks.column("actuator_shift").astype(int)[:, None]
        delay = tasks.column("action_delay").astype(int)
        dead = dead_actuators(robot, tasks)

        def of_slots(values: NDArray[Any]) -> Tensor:
            return torch.from_numpy(values.repeat(episodes, 0)).to(like.device)

        self._like, self._limit = like, robot.control_limit
        # (N, A) which command drives each actuator, and which actuators give no torque
        self._source = of_slots((np.arange(actuators) - shift) % actuators) if shift.any() else None
        self._dead = of_slots(dead) if dead.any() else None
        self._delay = of_slots(delay)  # (N,) control steps
        self._slots = torch.arange(len(self._delay), device=like.device)
        # A ring of the commands that are under way to some robot, the newest included.
        self._sent = like.new_zeros(int(delay.max()) + 1, len(self._delay), actuators)

    def reset(self) -> None:
        """Empties the lines: until a command arrives the controls are 0."""
        self._sent.zero_()
        self._t = 0

    def control(self, action: Tensor) -> Tensor:
        """What reaches the actuators now, (N, A), when this action is taken, (N, A) in [-1, 1]."""
        control = self._arriving(action.to(self._like.dtype).clamp(-1.0, 1.0) * self._limit)
        if self._source is not None:
            control = control.gather(-1, self._source)
        if self._dead is not None:
            control = control.masked_fill(self._dead, 0.0)
        return control

    def _arriving(self, command: Tensor) -> Tensor:
        line = len(self._sent)
        if line == 1:
            return command
        self._sent[self._t % line] = command
        arriving = self._sent[(self._t - self._delay) % line, self._slots]
        self._t += 1
        return arriving
