"""The interface of an agent, and the interface of the harness that an agent trains with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from mrl_bench.types import EnvSpec, Memory, Rollout, State, TimeStep

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor


class Act(Protocol):
    """A policy: (state, memory, time step) -> (action (B, E, A), memory). See `MetaAgent.act`."""

    def __call__(
        self, state: State, memory: Memory, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, Memory]: ...


class Tasks(Protocol):
    """A meta-batch of B training tasks. An agent can only collect episodes on it."""

    def collect(
        self, act: Act, state: State, memory: Memory = (), explore: bool = True
    ) -> tuple[Rollout, Memory]:
        """Plays one episode in each of the B x E environment instances, and counts the env steps.

        Args:
            act: chooses the actions; usually `self.act`.
            state: is passed to `act` as it is.
            memory: at the start of the episodes, leading with (B, E); `()` for agents without memory.
            explore: is passed to `act`.

        Returns:
            The rollout, and the memory of each instance after the last `act` of its episode.

        Raises:
            BudgetSpent: the next control step would exceed the budget. The episodes end there, and are lost.
        """
        ...


class Training(Protocol):
    """The harness during meta-training: supplies tasks, counts env steps, and logs."""

    @property
    def budget(self) -> int:
        """The env steps that the agent may use. They are never exceeded."""
        ...

    @property
    def steps(self) -> int:
        """The env steps used so far. Instances whose episode has ended do not count."""
        ...

    @property
    def left(self) -> int:
        """budget - steps, or 0 once `collect` has raised BudgetSpent."""
        ...

    def tasks(self, count: int, episodes: int) -> Tasks:
        """The next `count` tasks of the scenario's training stream, with `episodes` instances each.

        The harness may call the agent's `state_dict` here, for the learning curve.

        Raises:
            ContractError: `count` or `episodes` is not a whole number of at least 1.
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

    On a new task an agent plays rounds of episodes:

        state = initial_state(B)
        each round:    memory = start_episode(state, E)
                       each control step:    action, memory = act(state, memory, step, explore, rng)
                       state = adapt(state, memory, rollout, rng)

    Only `meta_train` and `load_state_dict` may change the agent. What the others learn is in `state` and `memory`, and
    all their randomness comes from `rng`, so that states can be copied, and no information passes between tasks or from
    scored episodes to later ones. The harness holds agents to this. They may write into what they are given, but for
    the state in `act`: it belongs to all steps of the episode.
    """

    # A frozen dataclass of hyperparameters, each with a default. Set a field `env_steps` to use less than the full
    # budget. A field's type may have bounds, as `Annotated[int, Ge(1)]` of the package annotated_types, and
    # `__post_init__` may raise a ValueError: both are checked when a suite or `--set` is read.
    Config: ClassVar[type[Any]]

    # True for an agent that learns from one episode after the other, as RL2: the episodes of a round are played one
    # after another (E is 1), with `adapt` after each. Otherwise they are played side by side. Optional.
    sequential: ClassVar[bool] = False

    def __init__(self, spec: EnvSpec, config: Any, seed: int, device: torch.device) -> None: ...

    def meta_train(self, training: Training) -> None:
        """Meta-trains until `training.left` is 0 or BudgetSpent is raised, or stops earlier."""
        ...

    def initial_state(self, num_tasks: int) -> State:
        """The state for `num_tasks` (B) new tasks, before any data: a tree of tensors (B, ...); `{}` for none."""
        ...

    def start_episode(self, state: State, num_envs: int) -> Memory:
        """The memory at the start of `num_envs` (E) episodes of each task: a tree of tensors (B, E, ...).

        An agent that learns between episodes only returns `()`.
        """
        ...

    def act(
        self, state: State, memory: Memory, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, Memory]:
        """Chooses actions, (B, E, A) in [-1, 1]; the family clamps values outside.

        `step` holds the previous reward, and the returned memory is passed to the next step, so an agent can learn
        within an episode. The memory of an instance whose episode has ended stays as it was before; its last reward is
        in the rollout that `adapt` gets. `explore` is True while data are collected, and False while the agent is
        scored.
        """
        ...

    def adapt(self, state: State, memory: Memory, rollout: Rollout, rng: Generator) -> State:
        """The state after learning from one round of episodes on the same B tasks, (B, E, ...).

        `memory` is that of each episode after its last `act`.
        """
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that was meta-learned, as named tensors. A new agent that loads them must act the same."""
        ...

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `state_dict` returned."""
        ...
