"""The interface of a batched simulation of robots, and the choice of one for a device."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from mrl_bench.errors import MissingPart, UsageError
from mrl_bench.types import TaskBatch
from mrl_tasks.locomotion.robots import Robot

if TYPE_CHECKING:
    import torch


class Simulation(Protocol):
    """N = B x E robots, ordered by task. `start` and `advance` update its tensors in place."""

    state: Tensor  # (N, nq + nv) qpos and qvel
    rest: Tensor  # (N, nq + nv) state of the robots at rest
    body_mass: Tensor  # (N, bodies) [kg]; body 0 is the world

    def derived(self, name: str) -> Tensor:
        """A field of `MjData` that is computed from the state, such as "xpos": (N, ...). Call it before `start`.

        After `advance` its values are those of the start of the last time step, as after `mj_step`.
        """
        ...

    def start(self, state: Tensor) -> None:
        """Sets the state of every robot, (N, nq + nv), and resets everything else of the simulation."""
        ...

    def advance(self, control: Tensor, living: Tensor) -> Tensor:
        """Advances the living robots by one control step.

        Args:
            control: of each actuator, (N, A).
            living: (N,) bool; the others are not simulated.

        Returns:
            (N,) bool: the simulation of this robot broke down, and its state is invalid until the next `start`.
        """
        ...


def simulate(robot: Robot, tasks: TaskBatch, episodes: int, device: torch.device) -> Simulation:
    """The simulation for a device.

    Raises:
        MissingPart: its simulator is not installed.
        UsageError: no simulator supports the device.
    """
    if device.type == "cpu":
        from mrl_tasks.locomotion.cpu import CpuSimulation

        return CpuSimulation(robot, tasks, episodes)
    if device.type == "cuda":
        if find_spec("mujoco_warp") is None:
            raise MissingPart("locomotion on a GPU needs MuJoCo Warp: pip install 'mrl-bench[gpu]'")
        from mrl_tasks.locomotion.gpu import WarpSimulation

        return WarpSimulation(robot, tasks, episodes, device)
    raise UsageError(f"locomotion runs on cpu and cuda, not on {device.type!r}")
