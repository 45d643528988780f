"""The robots on the CPU, by MuJoCo's batch stepping. Each task has its own physics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import mujoco
import numpy as np
import torch
from mujoco import batch
from numpy.typing import NDArray
from torch import Tensor

from mrl_bench.types import TaskBatch
from mrl_tasks.locomotion.models import as_built, rest_state
from mrl_tasks.locomotion.physics import Array, limb_lengths, model_fields, task_models
from mrl_tasks.locomotion.robots import Robot

# Number of simulation threads; None uses torch's number. Torch's threads spin while they wait and compete for cores,
# so 1 thread for torch and one per core here is fastest.
THREADS: int | None = None


class CpuSimulation:
    """A `Simulation` in float64. Results do not depend by a bit on the number of threads."""

    def __init__(self, robot: Robot, tasks: TaskBatch, episodes: int, threads: int | None = None) -> None:
        """`threads` defaults to `THREADS`."""
        instances = len(tasks) * episodes
        threads = min(threads or THREADS or torch.get_num_threads(), instances)
        self._batch = batch.Batch(as_built(robot), instances, nthread=threads)
        self._frame_skip = robot.frame_skip
        with quiet():
            if any(limb_lengths(robot, tasks)):
                models = task_models(robot, tasks)
                self._batch.set_models([model for model in models for _ in range(episodes)])
                body_mass = np.stack([model.body_mass for model in models])
            else:
                models = [as_built(robot)]
                fields = model_fields(robot, models[0], tasks)
                for name, values in fields.items():
                    self._batch.expand(name)[:] = values.repeat(episodes, 0)
                if fields:
                    self._batch.set_const()
                body_mass = fields.get("body_mass", models[0].body_mass[None])
        self.rest = self._of_instances(np.stack([rest_state(robot, model) for model in models]))
        self.body_mass = self._of_instances(body_mass)
        # A row of the batch's state starts with time, qpos and qvel.
        self.state = torch.from_numpy(self._batch.state[:, 1 : 1 + robot.positions + robot.velocities])
        self._control = self.derived("ctrl")
        self._warnings = self._batch.warning[..., 1]  # (N, kinds) how often each was raised since `start`
        self._none_broken = torch.zeros(instances, dtype=torch.bool)

    def _of_instances(self, values: Array) -> Tensor:
        """Repeats values per task, (B, ...), or shared values, (1, ...), for all instances, (N, ...)."""
        return torch.from_numpy(values.repeat(self._batch.nsim // len(values), 0))

    def derived(self, name: str) -> Tensor:
        values = self._batch.bind(name).view()
        values.flags.writeable = True  # the view is read-only by default, and torch needs writable arrays
        return torch.from_numpy(values)

    def start(self, state: Tensor) -> None:
        self._batch.reset(stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self._warnings[:] = 0
        self.state.copy_(state)
        self._call(self._batch.forward)

    def advance(self, control: Tensor, living: Tensor) -> Tensor:
        self._control.copy_(control)
        aborted = self._call(lambda: self._batch.step(living.numpy(), nstep=self._frame_skip))
        size = np.abs(self.state.numpy())
        if not (len(aborted) or self._warnings.any()) and size.max() <= mujoco.mjMAXVAL:
            return self._none_broken  # the usual case
        broken = self._warnings.any(-1)
        broken[aborted] = True
        # MuJoCo checks a state only at the start of the next time step.
        broken |= ~(size <= mujoco.mjMAXVAL).all(-1)
        return torch.from_numpy(broken)

    def _call(self, call: Callable[[], None]) -> NDArray[np.integer]:
        """Calls the simulator; returns the indices of the instances in which it raised an error."""
        with quiet():
            try:
                call()
            except batch.SimulationError as error:
                return np.asarray(error.ids)
        return np.zeros(0, dtype=int)


@contextmanager
def quiet() -> Iterator[None]:
    """Silences MuJoCo's warnings on the terminal and in MUJOCO_LOG.TXT. They are flagged as failures instead."""
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)
