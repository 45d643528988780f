"""The adaptation protocol: an agent adapts to unseen tasks, and is scored after k adaptation episodes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrl_bench.agent import MetaAgent
from mrl_bench.family import BatchEnv, HasMetrics
from mrl_bench.keyed_random import seed_of
from mrl_bench.protocol.promises import Unchanged, require_methods, require_state
from mrl_bench.protocol.rollout import collect
from mrl_bench.results import Curve, Online
from mrl_bench.types import Memory, Rollout, State, TaskBatch

if TYPE_CHECKING:
    import torch

    from mrl_bench.protocol.recorded import Recorder
    from mrl_bench.scenario import Scenario


class Checkpoint(NamedTuple):
    """An agent that has adapted to B tasks for some rounds."""

    round: int  # adaptation rounds so far
    state: State  # a copy: writing into it changes nothing in the adaptation
    env_steps: NDArray[np.float64]  # (B,) env steps of the adaptation data of each task so far
    online: Online  # the adaptation episodes so far


@dataclass(frozen=True)
class Adaptation:
    """One agent on one split of a scenario. Evaluation and videos both play through this class.

    Every scored episode starts in the same initial states, whatever the agent, its seed and k. Adaptation episodes
    start in new ones in each round, and for a sequential agent in each episode.
    """

    agent: MetaAgent  # is not changed
    scenario: Scenario  # whose `spec` the agent was made with
    split: str  # "train", "test" or "ood"
    seed: int  # of the agent's noise; the training seed
    device: torch.device  # where environment and agent compute
    strict: bool = False  # whether an action that is not finite raises ContractError

    @property
    def sequential(self) -> bool:
        """Whether the episodes of a round are played one after another."""
        return bool(getattr(self.agent, "sequential", False))

    def make_adapt_env(self, tasks: TaskBatch) -> BatchEnv:
        """An environment with as many instances of each task as the agent plays at the same time."""
        instances = 1 if self.sequential else self.scenario.protocol.episodes_per_round
        return self.scenario.family.make(tasks, instances, self.device)

    def checkpoints(self, adapt_env: BatchEnv, tasks: int, rounds: Collection[int]) -> Iterator[Checkpoint]:
        """Adapts to the tasks of an environment, and stops at each of some rounds.

        Args:
            adapt_env: made by `make_adapt_env`.
            tasks: B.
            rounds: counts of adaptation rounds at which a checkpoint is wanted; 0 is before any adaptation.

        Raises:
            ContractError: the agent broke a promise of `mrl_bench.agent`.
        """
        require_methods(self.agent)
        unchanged = Unchanged(self.agent)
        state = require_state(self.agent.initial_state(tasks), tasks, "initial_state")
        env_steps, played = np.zeros(tasks), list[Online]()
        times = self.scenario.protocol.episodes_per_round if self.sequential else 1
        for done in range(max(rounds) + 1):
            if done in rounds:
                yield Checkpoint(done, copy_state(state), env_steps.copy(), _in_order(tasks, played))
                unchanged.check()
            for turn in range(done * times, (done + 1) * times) if done < max(rounds) else ():
                seeds = self._seeds("adapt", turn, start=turn)
                rollout, memory = self._collect(adapt_env, state, explore=True, **seeds)
                env_steps += (rollout.mask.sum((1, 2)) + rollout.failed.sum(1)).cpu().numpy()
                played.append(Online(_returns(rollout), _failed(rollout), _metrics(adapt_env)))
                state = self.agent.adapt(state, memory, rollout, self._update_generator(turn))
                require_state(state, tasks, "adapt")

    def score(self, env: BatchEnv, checkpoint: Checkpoint) -> Rollout:
        """One scored episode in each environment instance. The agent does not explore and does not adapt."""
        seeds = self._seeds("scored", checkpoint.round, start=0)
        return self._collect(env, checkpoint.state, explore=False, **seeds)[0]

    def _collect(self, env: BatchEnv, state: State, **arguments: Any) -> tuple[Rollout, Memory]:
        return collect(env, self.scenario.spec, self.agent, state, strict=self.strict, **arguments)

    def _seeds(self, purpose: str, turn: int, start: int) -> dict[str, int]:
        """Seeds of a collection: of the initial states, and of the agent's noise."""
        scenario, split = self.scenario.id, self.split
        return {
            "seed": seed_of(purpose, scenario, split, start),
            "noise_seed": seed_of(purpose, "noise", scenario, split, turn, self.seed),
        }

    def _update_generator(self, turn: int) -> torch.Generator:
        import torch

        seed = seed_of("update", self.scenario.id, self.split, turn, self.seed)
        return torch.Generator(self.device).manual_seed(seed)


def evaluate(
    agent: MetaAgent,
    scenario: Scenario,
    split: str,
    *,
    seed: int,
    device: torch.device,
    k: Sequence[int] | None = None,
    strict: bool = False,
    recorder: Recorder | None = None,
) -> Curve:
    """The adaptation curve of `agent` on every task of a split.

    The tasks are played in one batch, and the agent adapts to each of them from that task's data alone. At each
    scored k, N scored episodes are played with a copy of the agent's state; `adapt` never sees them.

    Args:
        agent, scenario, split, seed, device, strict: see `Adaptation`.
        k: (K,) ascending multiples of the episodes per round; by default those of the scenario's protocol.
        recorder: keeps the actions of scored episodes.

    Raises:
        ContractError: the agent broke a promise of `mrl_bench.agent`.
    """
    protocol, tasks = scenario.protocol, scenario.tasks(split)
    scored_at = tuple(protocol.k if k is None else k)
    rounds = [episodes // protocol.episodes_per_round for episodes in scored_at]
    adaptation = Adaptation(agent, scenario, split, seed, device, strict)
    scored_env = scenario.family.make(tasks, protocol.scored_episodes, device)
    adapt_env = adaptation.make_adapt_env(tasks)
    returns, steps, failed, measured = [], [], [], []
    with closing(scored_env), closing(adapt_env):
        for checkpoint in adaptation.checkpoints(adapt_env, len(tasks), rounds):
            rollout = adaptation.score(scored_env, checkpoint)
            if recorder:
                recorder.keep(rollout)
            returns.append(_returns(rollout))
            measured.append(_metrics(scored_env))
            steps.append(checkpoint.env_steps)
            failed.append(checkpoint.online.failed.sum(1) + _failed(rollout).sum(1))
    return Curve(
        k=scored_at,
        returns=np.stack(returns, 1),  # (B, K, N)
        env_steps=np.stack(steps, 1),  # (B, K)
        failed=np.stack(failed, 1),  # (B, K)
        online=checkpoint.online,  # at the largest k
        metrics={name: np.stack([values[name] for values in measured], 1) for name in measured[0]},
        reported=dict(scored_env.reported) if isinstance(scored_env, HasMetrics) else {},
    )


def _returns(rollout: Rollout) -> NDArray[np.float64]:
    """Undiscounted return of each episode, (B, E)."""
    return rollout.returns().double().cpu().numpy()


def _failed(rollout: Rollout) -> NDArray[np.int64]:
    """(B, E) 1 if the episode failed, else 0."""
    return rollout.failed.long().cpu().numpy()


def _metrics(env: BatchEnv) -> dict[str, NDArray[np.float64]]:
    """Name -> (B, E): what the family measured in the episodes just played, if it measures anything."""
    measured = env.metrics() if isinstance(env, HasMetrics) else {}
    return {name: value.double().cpu().numpy() for name, value in measured.items()}


def _in_order(tasks: int, played: Sequence[Online]) -> Online:
    """The episodes of collections (B, E), one after another."""
    none = np.zeros((tasks, 0))  # if there was no collection
    return Online(
        returns=np.concatenate([none, *(part.returns for part in played)], 1),
        failed=np.concatenate([none.astype(np.int64), *(part.failed for part in played)], 1),
        metrics={
            name: np.concatenate([part.metrics[name] for part in played], 1)
            for name in (played[0].metrics if played else ())
        },
    )


def copy_state(state: State) -> State:
    """The same tree with new tensors, so that an agent that writes into its state cannot learn from scored episodes."""
    import torch
    from torch.utils._pytree import tree_map

    return tree_map(lambda leaf: leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf, state)
