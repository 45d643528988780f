"""What a simulator of many robots provides, and which one computes where."""

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
    """N = B x E robots, task by task. Its tensors are live: `start` and `advance` change what they hold."""

    state: Tensor  # (N, nq + nv) qpos and qvel
    rest: Tensor  # (N, nq + nv) state of the robots at rest
    body_mass: Tensor  # (N, bodies) [kg], the world being the first body

    def derived(self, name: str) -> Tensor:
        """A quantity of `MjData` that follows from the state, as "xpos": (N, ...). Ask before `start`.

        After `advance` it is still that of the begin of the last time step, as after `mj_step`.
        """
        ...

    def start(self, state: Tensor) -> None:
        """Puts every robot into a state, (N, nq + nv), with nothing left of what was before."""
        ...

    def advance(self, control: Tensor, living: Tensor) -> Tensor:
        """Moves the living robots by one control step.

        Args:
            control: what each actuator is told, (N, A).
            living: (N,) bool; the others are not simulated.

        Returns:
            (N,) bool: the simulation broke down here, and the state has no meaning until the next `start`.
        """
        ...


def simulate(robot: Robot, tasks: TaskBatch, episodes: int, device: torch.device) -> Simulation:
    """The simulator for a device.

    Raises:
        MissingPart: it is not installed.
        UsageError: there is none.
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
