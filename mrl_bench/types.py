"""The data types shared by all modules, and the letters of their axes.

B  tasks in a batch                T  control steps of an episode       O  size of an observation
E  parallel episodes per task      K  adaptation rounds                 A  size of an action
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

# What an agent has inferred about B tasks: a tree (tuple, list, dict; no dataclasses) of tensors of shape (B, ...).
State = Any

# What an agent remembers within the running episodes: such a tree of tensors of shape (B, E, ...); () for nothing.
Memory = Any


@dataclass(frozen=True)
class Trial:
    """The episodes of an evaluation on one new task. Every agent gets it in its spec."""

    k: tuple[int, ...] = (0, 1)  # numbers of adaptation episodes after which the agent is scored, ascending
    episodes_per_round: int = 1  # adaptation episodes of a round; each k is a multiple of it
    scored_episodes: int = 1  # episodes that are scored at each k, from which the agent does not learn


@dataclass(frozen=True)
class EnvSpec:
    """What an agent may know of an environment: sizes, time step and scales, but no parameters or reward function.

    Every action is a vector in [-1, 1]^A. The family clamps it and scales it to forces or torques. A family leaves
    `trial` at its default; the harness sets it to what the scenario's protocol says.
    """

    obs_dim: int  # O
    act_dim: int  # A
    horizon: int  # control steps of a full episode; reaching it truncates the episode
    dt: float  # seconds per control step
    # (O,) a large magnitude of each entry, for normalisation; () means all 1
    obs_scale: tuple[float, ...] = ()
    trial: Trial = Trial()

    def __post_init__(self) -> None:
        object.__setattr__(self, "obs_scale", self.obs_scale or (1.0,) * self.obs_dim)


class Ratio(NamedTuple):
    """How a metric is aggregated over episodes: its sum divided by the sum of another metric, or its mean."""

    metric: str
    per: str | None = None  # the metric in the denominator; None for the number of episodes
    # Least and largest possible value of the quotient, at which intervals are cut; None where there is no bound.
    low: float | None = None
    high: float | None = None

    @property
    def measured(self) -> tuple[str, ...]:
        """The metrics that it is computed from."""
        return (self.metric,) if self.per is None else (self.metric, self.per)


@dataclass(frozen=True)
class TaskBatch:
    """B tasks of one family, in numpy: tasks are drawn, stored and hashed on the CPU."""

    names: tuple[str, ...]  # (P,) in the order of the family's `params`
    values: NDArray[np.float64]  # (B, P), each in its parameter's unit

    def __len__(self) -> int:
        return int(self.values.shape[0])

    def column(self, name: str) -> NDArray[np.float64]:
        """One parameter of every task, (B,)."""
        column: NDArray[np.float64] = self.values[:, self.names.index(name)]
        return column


class Step(NamedTuple):
    """The result of one control step. Values of an environment instance whose episode ended earlier are undefined."""

    obs: Tensor  # (B, E, O)
    reward: Tensor  # (B, E)
    terminated: Tensor  # (B, E) bool: a terminal state was reached; do not bootstrap from it
    failed: Tensor  # (B, E) bool: the simulation became invalid (NaN, instability), which ends the episode


class TimeStep(NamedTuple):
    """What an agent observes before it acts: the result of the previous control step.

    At t = 0 of an episode, `action` and `reward` are zero. Where `alive` is 0 the episode has ended, and the action
    is ignored.
    """

    obs: Tensor  # (B, E, O)
    action: Tensor  # (B, E, A)
    reward: Tensor  # (B, E)
    alive: Tensor  # (B, E) 1 or 0
    t: int


@dataclass(frozen=True)
class Rollout:
    """One episode in each of the B x E environment instances.

    T is at most the horizon; it is less if all episodes ended earlier. After the end of an episode, mask and reward
    are 0 and the last observation is repeated. So the observation at the end of the mask is the one to bootstrap
    from when the horizon truncated the episode.
    """

    obs: Tensor  # (B, E, T + 1, O)
    action: Tensor  # (B, E, T, A) as the agent returned it, before clamping
    reward: Tensor  # (B, E, T)
    terminated: Tensor  # (B, E, T) bool
    mask: Tensor  # (B, E, T) 1 during the episode, 0 after its end
    failed: Tensor  # (B, E) bool: the simulation became invalid, or the agent's action was not finite

    def returns(self) -> Tensor:
        """Undiscounted return of each episode, (B, E)."""
        return self.reward.sum(-1)

    def lengths(self) -> Tensor:
        """Number of control steps of each episode, (B, E)."""
        return self.mask.sum(-1)
