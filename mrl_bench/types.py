"""The data that crosses module borders, and the letters for its axes.

B  tasks in a batch                T  control steps of an episode       O  size of an observation
E  episodes side by side per task  K  adaptation rounds                 A  size of an action
S  training seeds                  P  parameters of a task

Batch axes lead, always in this order: (B, E, T, ...). Tensors are float32 unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

# A tree (tensor, tuple, list, dict, dataclass-free) whose tensors all lead with B; what an agent knows of B tasks.
State = Any


@dataclass(frozen=True)
class EnvSpec:
    """All that an agent may know of an environment: sizes, a clock and units. No parameters, no reward function.

    An action is a vector in [-1, 1]^A everywhere; a family scales it to newtons or to torques, and clamps it.
    """

    obs_dim: int  # O
    act_dim: int  # A
    horizon: int  # control steps in a full episode; an episode that reaches it was cut, not terminated
    dt: float  # seconds a control step
    obs_scale: tuple[
        float, ...
    ] = ()  # (O,) magnitude that is large for each entry, to divide by; () for all 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "obs_scale", self.obs_scale or (1.0,) * self.obs_dim)


class Ratio(NamedTuple):
    """How a metric is summed up over many episodes: the sum of it over the sum of another one, or its mean."""

    metric: str
    per: str | None = None  # the other one; None for a mean: what is summed is 1 an episode


@dataclass(frozen=True)
class TaskBatch:
    """B tasks of one family. Plain numpy: a task is drawn, written down and hashed on the host."""

    names: tuple[str, ...]  # (P,) in the order of the family's `params`
    values: NDArray[np.float64]  # (B, P), each in its parameter's unit

    def __len__(self) -> int:
        return int(self.values.shape[0])

    def column(self, name: str) -> NDArray[np.float64]:
        """One parameter of every task, (B,)."""
        column: NDArray[np.float64] = self.values[:, self.names.index(name)]
        return column


class Step(NamedTuple):
    """What one control step gives back. The numbers of a slot that had ended before have no meaning."""

    obs: Tensor  # (B, E, O)
    reward: Tensor  # (B, E)
    terminated: Tensor  # (B, E) bool: the task ended here, so nothing follows to bootstrap from
    failed: Tensor  # (B, E) bool: the simulation broke down here (NaN, instability); ends the episode, marked


class TimeStep(NamedTuple):
    """What an agent sees before it acts: the end of the last control step.

    At t = 0 of an episode `action` and `reward` are zero. A slot with alive 0 has ended: its action is ignored.
    """

    obs: Tensor  # (B, E, O)
    action: Tensor  # (B, E, A)
    reward: Tensor  # (B, E)
    alive: Tensor  # (B, E) 1 or 0
    t: int


@dataclass(frozen=True)
class Rollout:
    """One episode in every slot. T is at most the horizon: collection may stop once every slot has ended.

    After the end of a slot's episode its mask and reward are 0 and its last observation is repeated, so that the
    observation at the end of the mask is the one to bootstrap from when the episode was cut by the horizon.
    """

    obs: Tensor  # (B, E, T + 1, O)
    action: Tensor  # (B, E, T, A) as the agent gave it, before any clamping
    reward: Tensor  # (B, E, T)
    terminated: Tensor  # (B, E, T) bool
    mask: Tensor  # (B, E, T) 1 while the episode lives
    failed: Tensor  # (B, E) bool: the simulation broke down, or the agent's action was not finite

    def returns(self) -> Tensor:
        """Undiscounted return of each episode, (B, E)."""
        return self.reward.sum(-1)

    def lengths(self) -> Tensor:
        """Control steps of each episode, (B, E)."""
        return self.mask.sum(-1)
