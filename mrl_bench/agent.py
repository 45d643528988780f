"""What an agent provides, and what the harness gives it to learn from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from mrl_bench.types import EnvSpec, Rollout, State, TimeStep

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor


class Act(Protocol):
    """How to act: (state, what was seen last) -> (action (B, E, A), state). See `MetaAgent.act`."""

    def __call__(
        self, state: State, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, State]: ...


class Tasks(Protocol):
    """A meta-batch of training tasks, as an agent gets to see it: it can be played, and nothing else."""

    def collect(self, act: Act, state: State, explore: bool = True) -> tuple[Rollout, State]:
        """Plays one episode in each of the B x E slots, and counts the env steps.

        Returns:
            The rollout, and the state as `act` left it at the end.
        """
        ...


class Training(Protocol):
    """The harness's side of meta-training: fresh tasks, the budget, and a log."""

    @property
    def budget(self) -> int:
        """Env steps that may be used."""
        ...

    @property
    def steps(self) -> int:
        """Env steps used so far, counted by the harness. Only steps of living slots count."""
        ...

    @property
    def left(self) -> int:
        """budget - steps. A collection that starts with some left is finished; one that starts with none is not."""
        ...

    def tasks(self, count: int, episodes: int) -> Tasks:
        """The next `count` tasks of the scenario's training stream, with `episodes` slots each.

        Now and then the harness takes the `state_dict` here, to see how good the agent is so far.
        """
        ...

    def log(self, values: Mapping[str, float | Tensor]) -> None:
        """Writes scalars at the present step, under TensorBoard tags as "losses/policy_loss".

        Those under "model/", the errors of a learned model on tasks that it has not learned from, are part of
        the result by their last value, and the report shows them.
        """
        ...


class MetaAgent(Protocol):
    """Learns across tasks, then adapts to new ones.

    `begin`, `act` and `adapt` never change the agent: what it learns of a task lives in `state`, a tree of tensors
    that lead with B, and randomness comes from the `rng` that it is handed. So a state can be frozen, copied and
    replayed, and one task learns nothing from another.
    """

    # A frozen dataclass of hyperparameters, each with a default. Who means to use less than the budget says so by one
    # that is called `env_steps`.
    Config: ClassVar[type[Any]]

    def __init__(self, spec: EnvSpec, config: Any, seed: int, device: torch.device) -> None: ...

    def meta_train(self, training: Training) -> None:
        """Learns from training tasks until `training.left` is used up, or earlier."""
        ...

    def initial_state(self, num_tasks: int) -> State:
        """What is known of B tasks before any data of them."""
        ...

    def act(self, state: State, step: TimeStep, explore: bool, rng: Generator) -> tuple[Tensor, State]:
        """Chooses actions, (B, E, A) in [-1, 1]; values outside are clamped by the family.

        `last` holds the reward of the last step and `state` is handed on to the next one, so an agent may learn
        within an episode. The state at the end of an adaptation episode goes to `adapt`; that of a scored one is
        thrown away. With `explore` False the agent is scored, with True it gathers data.
        """
        ...

    def adapt(self, state: State, rollout: Rollout, rng: Generator) -> State:
        """Learns from one round of episodes of the same B tasks."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """All that was meta-learned, as named tensors."""
        ...

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave."""
        ...
