"""The interface of a task family: the parameters that a scenario may vary, and a batched simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from mrl_bench.errors import ContractError
from mrl_bench.types import EnvSpec, Ratio, Step, TaskBatch

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class Param:
    """A task parameter and its bounds. The scenario defines its distribution."""

    default: float
    low: float  # a scenario may not ask for values outside [low, high]
    high: float
    unit: str
    doc: str
    values: tuple[float, ...] | None = None  # if given, the only allowed values
    because: str = ""  # what limits [low, high] under the family's options, for messages


class TaskFamily(Protocol):
    """A simulation with task parameters.

    A family is a frozen dataclass. Its fields are `horizon` and the options that a scenario may set under `options`.
    An option that does not affect results, such as a server's address, has the metadata {"in_digest": False}.
    Import torch and the simulator in `make`, not at module level: `mrl-bench list` and the check of a scenario need
    neither. An option may have bounds, as `Annotated[int, Interval(ge=0, le=6)]` of the package annotated_types. A
    `__post_init__` may raise ValueError or UsageError; if its message names an option, the error is shown at its line.
    """

    @property
    def params(self) -> Mapping[str, Param]:
        """The parameters that have an effect, on trajectory or reward, under these options."""
        ...

    @property
    def spec(self) -> EnvSpec: ...

    @property
    def simulator(self) -> str:
        """Name and version of the simulator, as "mujoco 4.0.0". Part of every scenario's digest."""
        ...

    def make(
        self, tasks: TaskBatch, episodes: int, device: torch.device, dtype: torch.dtype | None = None
    ) -> BatchEnv:
        """B x E environment instances that step together. `dtype` defaults to float32."""
        ...


class HasDataFiles(Protocol):
    """A `TaskFamily` that reads files, such as maps. Optional; their content is part of every scenario's digest."""

    @property
    def data_files(self) -> Sequence[Path]:
        """The files that results depend on under these options. Raises: MissingPart: they are not installed."""
        ...


@runtime_checkable
class OneProcessOnly(Protocol):
    """A `TaskFamily` whose simulator serves one process at a time, such as a CARLA server. Optional.

    The learning curve of an agent is then measured in the process that trains it, once meta-training has ended.
    """

    @property
    def one_process_only(self) -> bool:
        """Whether it does so under these options."""
        ...


def needs_one_process(family: TaskFamily) -> bool:
    """Whether only one process at a time can use the family's simulator."""
    return isinstance(family, OneProcessOnly) and family.one_process_only


class BatchEnv(Protocol):
    """B tasks x E environment instances per task in lockstep, on one device.

    There is no autoreset: an instance whose episode has ended stays unchanged until the next `reset`, and should not
    be simulated. The values of an instance must not depend on the other instances or on their number.
    """

    def reset(self, seed: int) -> Tensor:
        """Starts an episode in every instance. The initial state of (b, e) depends only on seed, b, e and its task.

        Returns:
            Observations, (B, E, O).
        """
        ...

    def step(self, action: Tensor) -> Step:
        """Advances every instance whose episode has not ended by one control step.

        Args:
            action: (B, E, A), finite; the family clamps it to [-1, 1].
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class Renderable(BatchEnv, Protocol):
    """A `BatchEnv` that renders images. Optional; only `mrl-bench play` and videos need it."""

    def render(self, task: int, episode: int, width: int, height: int) -> NDArray[np.uint8]:
        """An RGB image of instance (task, episode), (height, width, 3) uint8. Does not change the simulation.

        The first call imports and opens the renderer; `close` closes it.

        Raises:
            MissingPart: the renderer is not installed.
        """
        ...


@runtime_checkable
class HasMetrics(BatchEnv, Protocol):
    """A `BatchEnv` that measures more than returns. Optional; agents do not see the metrics."""

    @property
    def reported(self) -> Mapping[str, Ratio]:
        """The metrics in reports: display name with unit -> how it is aggregated over episodes."""
        ...

    def metrics(self) -> dict[str, Tensor]:
        """Name -> (B, E), finite: the metrics of the current episodes so far. Does not change the simulation."""
        ...


@runtime_checkable
class HasRewardRange(Protocol):
    """A `TaskFamily` that knows what a control step can pay. Optional; a return beyond it fails its run."""

    @property
    def reward_range(self) -> tuple[float, float]:
        """Least and largest reward of a control step under these options; -inf or inf where there is no bound."""
        ...


def reward_range(family: TaskFamily) -> tuple[float, float]:
    """The family's `reward_range`; unbounded if it declares none.

    Raises:
        ContractError: it is not a pair of ascending numbers.
    """
    if not isinstance(family, HasRewardRange):
        return (-inf, inf)
    declared = family.reward_range
    try:
        low, high = map(float, declared)
        if low <= high:
            return (low, high)
    except (TypeError, ValueError):
        pass
    name = type(family).__name__
    raise ContractError(f"{name}.reward_range must be the least and the largest reward, not {declared!r}")
