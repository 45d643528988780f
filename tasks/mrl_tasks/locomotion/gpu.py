"""The robots on a GPU, by MuJoCo Warp: one world per environment instance. Each task has its own physics."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mujoco
import mujoco_warp
import numpy as np
import torch
import warp
from mujoco_warp import OverflowType
from torch import Tensor

from mrl_bench.errors import UsageError
from mrl_bench.types import TaskBatch
from mrl_tasks.locomotion.models import as_built, rest_state
from mrl_tasks.locomotion.physics import Array, Fields, task_models
from mrl_tasks.locomotion.robots import Robot

_OUT_OF_MEMORY = (
    OverflowType.NEFC | OverflowType.NJMAX_NNZ | OverflowType.BROADPHASE | OverflowType.NARROWPHASE
)

warp.config.log_level = warp.LOG_WARNING  # else it prints a line for each kernel


class WarpSimulation:
    """A `Simulation` in float32. The last bits of a trajectory may differ from run to run."""

    def __init__(self, robot: Robot, tasks: TaskBatch, episodes: int, device: torch.device) -> None:
        """`device` may also be the CPU, for tests: Warp is slow there.

        Raises:
            UsageError: Warp does not have the robot's solver.
        """
        if robot.solver != "Newton":
            raise UsageError("on a GPU this robot needs the option 'solver: Newton'")
        self._device, self._episodes, self._frame_skip = device, episodes, robot.frame_skip
        shared, models = as_built(robot), task_models(robot, tasks)
        worlds = len(models) * episodes
        with self._scope():
            self._model = self._put(shared, models)
            # The largest number of contacts that can occur, so that no world uses up the space of another.
            self._data = mujoco_warp.make_data(shared, nworld=worlds, nconmax=max(1, 2 * shared.npair))
        self.rest = self._of_worlds(np.stack([rest_state(robot, model) for model in models]))
        self.body_mass = self._of_worlds(np.stack([model.body_mass for model in models]))
        self.state = self.rest.clone()
        self._live: dict[str, Tensor] = {}  # derived quantities, as Warp has them now
        self._kept: dict[str, Tensor] = {}  # the same, frozen in worlds that have ended
        self._graph = self._record() if device.type == "cuda" else None

    def _put(self, shared: mujoco.MjModel, models: list[mujoco.MjModel]) -> Any:
        """The model on the device. Every field that differs between tasks has one value per world.

        These include the fields that MuJoCo derives from a task's physics, which Warp would share by default.
        """
        worlds, fields = len(models) * self._episodes, _differing_fields(shared, models)
        put = mujoco_warp.put_model(shared, batch_sizes=dict.fromkeys(fields, worlds))
        for name, values in fields.items():
            array = warp.to_torch(getattr(put, name))
            array.copy_(self._of_worlds(values).view(array.shape))
        gravity = self._of_worlds(np.stack([model.opt.gravity for model in models]))
        put.opt.gravity = warp.from_torch(gravity, dtype=warp.vec3)
        put.opt.warn_overflow = 0  # `advance` flags overflows instead
        return put

    def _of_worlds(self, values: Array) -> Tensor:
        """Repeats values per task, (B, ...), for all worlds, (N, ...)."""
        return torch.from_numpy(values.repeat(self._episodes, 0)).to(self._device, torch.float32).contiguous()

    def derived(self, name: str) -> Tensor:
        self._live[name] = warp.to_torch(getattr(self._data, name))
        self._kept[name] = self._live[name].clone()
        return self._kept[name]

    def start(self, state: Tensor) -> None:
        with self._scope():
            mujoco_warp.reset_data(self._model, self._data)
            positions = self._data.qpos.shape[1]
            warp.to_torch(self._data.qpos).copy_(state[:, :positions])
            warp.to_torch(self._data.qvel).copy_(state[:, positions:])
            mujoco_warp.forward(self._model, self._data)
        self._keep(torch.ones(len(state), dtype=torch.bool, device=self._device))

    def advance(self, control: Tensor, living: Tensor) -> Tensor:
        warp.to_torch(self._data.ctrl).copy_(control)
        with self._scope():
            if self._graph is None:
                self._time_steps()
            else:
                warp.capture_launch(self._graph, stream=warp.get_stream())
        self._keep(living)
        sane = torch.linalg.vector_norm(self.state, torch.inf, -1) <= mujoco.mjMAXVAL
        out_of_memory = warp.to_torch(self._data.overflow) & int(_OUT_OF_MEMORY) != 0
        # Warp clips a NaN control to the actuator's limit.
        broken: Tensor = ~sane | out_of_memory | ~control.isfinite().all(-1)
        return broken

    def _time_steps(self) -> None:
        for _ in range(self._frame_skip):
            mujoco_warp.step(self._model, self._data)

    def _record(self) -> Any:
        """Records a CUDA graph of one control step, which replays without work on the host."""
        with warp.ScopedDevice(str(self._device)):
            self._time_steps()  # compiles the kernels, which cannot be recorded
            with warp.ScopedCapture() as capture:
                self._time_steps()
        return capture.graph

    def _keep(self, living: Tensor) -> None:
        """Copies the results of living worlds. The simulator steps all worlds, but ended ones must not change."""
        state = torch.cat([warp.to_torch(self._data.qpos), warp.to_torch(self._data.qvel)], -1)
        self.state.copy_(torch.where(living[:, None], state, self.state))
        for name, kept in self._kept.items():
            alive = living.view(-1, *[1] * (kept.ndim - 1))
            kept.copy_(torch.where(alive, self._live[name], kept))

    @contextmanager
    def _scope(self) -> Iterator[None]:
        """Makes Warp use our device, and torch's current stream on it."""
        with warp.ScopedDevice(str(self._device)):
            if self._device.type != "cuda":
                yield
                return
            stream = torch.cuda.current_stream(self._device)
            with warp.ScopedStream(warp.stream_from_torch(stream)):
                yield


def _differing_fields(shared: mujoco.MjModel, models: list[mujoco.MjModel]) -> Fields:
    """Fields that Warp can store per world and that differ from the shared model in some task, (B, ...)."""
    names = [
        f.name for f in dataclasses.fields(mujoco_warp.Model) if getattr(f.type, "shape", ())[:1] == ("*",)
    ]
    fields = {name: np.stack([getattr(model, name) for model in models]) for name in names}
    return {name: values for name, values in fields.items() if (values != getattr(shared, name)).any()}
