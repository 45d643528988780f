"""The robots on the CPU: MuJoCo's own batch stepping, with physics of its own for each task."""

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

# Threads that simulate; None for as many as torch is set to use. Torch's own threads wait actively, and take
# the cores away from these: 1 for torch and the cores' number here is the fastest.
THREADS: int | None = None


class CpuSimulation:
    """See `Simulation`. Float64, and the same to the last bit on any number of threads."""

    def __init__(self, robot: Robot, tasks: TaskBatch, episodes: int, threads: int | None = None) -> None:
        """`threads` is `THREADS`, if not given."""
        slots = len(tasks) * episodes
        threads = min(threads or THREADS or torch.get_num_threads(), slots)
        self._batch = batch.Batch(as_built(robot), slots, nthread=threads)
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
        self.rest = self._of_slots(np.stack([rest_state(robot, model) for model in models]))
        self.body_mass = self._of_slots(body_mass)
        # A row of the batch's state begins with time, qpos, qvel.
        self.state = torch.from_numpy(self._batch.state[:, 1 : 1 + robot.positions + robot.velocities])
        self._control = self.derived("ctrl")
        self._warnings = self._batch.warning[..., 1]  # (N, kinds) how often each was raised since `start`
        self._none_broken = torch.zeros(slots, dtype=torch.bool)

    def _of_slots(self, values: Array) -> Tensor:
        """Values of tasks, (B, ...), or of all, (1, ...), as those of slots, (N, ...)."""
        return torch.from_numpy(values.repeat(self._batch.nsim // len(values), 0))

    def derived(self, name: str) -> Tensor:
        values = self._batch.bind(name).view()
        values.flags.writeable = True  # torch asks for it, though nobody writes
        return torch.from_numpy(values)

    def start(self, state: Tensor) -> None:
        self._batch.reset(stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self._warnings[:] = 0
        self.state.copy_(state)
        self._call(self._batch.forward)

    def advance(self, control: Tensor, living: Tensor) -> Tensor:
        self._control.copy_(control)
        given_up = self._call(lambda: self._batch.step(living.numpy(), nstep=self._frame_skip))
        size = np.abs(self.state.numpy())
        if not (len(given_up) or self._warnings.any()) and size.max() <= mujoco.mjMAXVAL:
            return self._none_broken  # as nearly always
        broken = self._warnings.any(-1)
        broken[given_up] = True
        # MuJoCo would see only in its next time step what became of the state in this one.
        broken |= ~(size <= mujoco.mjMAXVAL).all(-1)
        return torch.from_numpy(broken)

    def _call(self, call: Callable[[], None]) -> NDArray[np.integer]:
        """Calls the simulator, and gives the slots that it raised an error in."""
        with quiet():
            try:
                call()
            except batch.SimulationError as error:
                return np.asarray(error.ids)
        return np.zeros(0, dtype=int)


@contextmanager
def quiet() -> Iterator[None]:
    """MuJoCo's warnings end episodes here: no need to print them, nor to leave a MUJOCO_LOG.TXT."""
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)
