"""The interface of an agent, and the interface of the harness that an agent trains with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from mrl_bench.types import EnvSpec, Rollout, State, TimeStep

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor


class Act(Protocol):
    """A policy: (state, time step) -> (action (B, E, A), state). See `MetaAgent.act`."""

    def __call__(
        self, state: State, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, State]: ...


class Tasks(Protocol):
    """A meta-batch of B training tasks. An agent can only collect episodes on it."""

    def collect(self, act: Act, state: State, explore: bool = True) -> tuple[Rollout, State]:
        """Plays one episode in each of the B x E environment instances, and counts the env steps.

        Returns:
            The rollout, and the state that `act` returned last.

        Raises:
            BudgetSpent: no env steps are left.
        """
        ...


class Training(Protocol):
    """The harness during meta-training: supplies tasks, counts env steps, and logs."""

    @property
    def budget(self) -> int:
        """The env steps that the agent may use."""
        ...

    @property
    def steps(self) -> int:
        """The env steps used so far. Instances whose episode has ended do not count."""
        ...

    @property
    def left(self) -> int:
        """budget - steps. A collection that starts with steps left is completed, even beyond the budget."""
        ...

    def tasks(self, count: int, episodes: int) -> Tasks:
        """The next `count` tasks of the scenario's training stream, with `episodes` instances each.

        The harness may call the agent's `state_dict` here, for the learning curve.
        """
        ...

    def log(self, values: Mapping[str, float | Tensor]) -> None:
        """Logs scalars at the current env step, under TensorBoard tags such as "losses/policy_loss".

        Tags under "model/" are errors of a learned dynamics model on tasks it was not trained on. Their last values
        become part of the results and appear in the report.
        """
        ...


class MetaAgent(Protocol):
    """Learns across tasks, then adapts to new ones.

    `initial_state`, `act` and `adapt` must not change the agent. What it learns about a task is in `state`, a tree of
    tensors of shape (B, ...), and all randomness comes from the `rng` argument. So states can be frozen, copied and
    replayed, and no information passes between tasks.
    """

    # A frozen dataclass of hyperparameters, each with a default. Set a field `env_steps` to use less than the full
    # budget.
    Config: ClassVar[type[Any]]

    def __init__(self, spec: EnvSpec, config: Any, seed: int, device: torch.device) -> None: ...

    def meta_train(self, training: Training) -> None:
        """Meta-trains until `training.left` is 0, or stops earlier."""
        ...

    def initial_state(self, num_tasks: int) -> State:
        """The state for `num_tasks` (B) new tasks, before any data: a tree of tensors (B, ...)."""
        ...

    def act(self, state: State, step: TimeStep, explore: bool, rng: Generator) -> tuple[Tensor, State]:
        """Chooses actions, (B, E, A) in [-1, 1]; the family clamps values outside.

        `step` holds the previous reward, and the returned state is passed to the next step, so an agent can learn
        within an episode. After an adaptation episode the state is passed to `adapt`; after a scored episode it is
        discarded. `explore` is True while data are collected, and False while the agent is scored.
        """
        ...

    def adapt(self, state: State, rollout: Rollout, rng: Generator) -> State:
        """The state after learning from one round of episodes on the same B tasks."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that was meta-learned, as named tensors."""
        ...

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `state_dict` returned."""
        ...
