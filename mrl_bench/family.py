"""What a task family provides: parameters that a scenario may vary, and a batched simulation of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from mrl_bench.types import EnvSpec, Ratio, Step, TaskBatch

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class Param:
    """A task parameter. Says what is possible; how it is distributed is the scenario's business."""

    default: float
    low: float  # a scenario may not ask for values outside [low, high]
    high: float
    unit: str
    doc: str
    values: tuple[float, ...] | None = None  # if given, the only values that there are


class TaskFamily(Protocol):
    """One kind of simulation.

    A family is a frozen dataclass: its fields are the options that a scenario may set under `options`, and `horizon`
    is one of them. Importing its module must be cheap: no torch and no simulator before `make`, because `mrl-bench
    list` and `check` read the declaration alone.
    """

    @property
    def params(self) -> Mapping[str, Param]:
        """The parameters that are alive under these options: each of them changes trajectory or reward."""
        ...

    @property
    def spec(self) -> EnvSpec: ...

    @property
    def simulator(self) -> str:
        """Name and version of what computes the numbers, as "mujoco 4.0.0". Part of every scenario's digest."""
        ...

    def make(
        self, tasks: TaskBatch, episodes: int, device: torch.device, dtype: torch.dtype | None = None
    ) -> BatchEnv:
        """B x E slots that step together. `dtype` is float32 unless given."""
        ...


class BatchEnv(Protocol):
    """B tasks x E episodes in lockstep, on one device.

    There is no autoreset: a slot whose episode has ended stays as it is until the next `reset`, and should cost no
    simulation. A slot's numbers never depend on its neighbours, nor on how many there are.
    """

    def reset(self, seed: int) -> Tensor:
        """Starts an episode in every slot; the start of slot (b, e) is a function of seed, b, e and its task alone.

        Returns:
            Observations, (B, E, O).
        """
        ...

    def step(self, action: Tensor) -> Step:
        """Advances every living slot by one control step. Args: action (B, E, A), finite, clamped to [-1, 1]."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Renderable(BatchEnv, Protocol):
    """A `BatchEnv` that can show itself. Optional: without it there is no `mrl-bench play`, and all else works."""

    def render(self, task: int, episode: int, width: int, height: int) -> NDArray[np.uint8]:
        """What slot (task, episode) looks like now, (height, width, 3) in RGB. Changes nothing.

        What it draws with is imported, and opened, when it is first called; `close` closes it.

        Raises:
            MissingPart: what it draws with is not installed.
        """
        ...


@runtime_checkable
class HasMetrics(BatchEnv, Protocol):
    """A `BatchEnv` that measures more of an episode than its return. Optional; agents see nothing of it."""

    @property
    def reported(self) -> Mapping[str, Ratio]:
        """What boards show of the metrics: a name for people, with its unit -> how it is summed up over episodes."""
        ...

    def metrics(self) -> dict[str, Tensor]:
        """Name -> (B, E), finite, of the present episodes as far as they have come. Changes nothing."""
        ...
