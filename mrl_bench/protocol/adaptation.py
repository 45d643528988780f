"""The adaptation protocol: what a trained agent scores on a list of tasks after k episodes of each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mrl_bench.agent import MetaAgent
from mrl_bench.keyed_random import seed_of
from mrl_bench.protocol.privileged import agent_spec, make_env, meter
from mrl_bench.protocol.rollout import collect
from mrl_bench.results import Curve
from mrl_bench.types import State

if TYPE_CHECKING:
    import torch

    from mrl_bench.scenario import Scenario


def evaluate(
    agent: MetaAgent,
    scenario: Scenario,
    split: str,
    *,
    seed: int,
    device: torch.device,
    privileged: bool = False,
    k: Sequence[int] | None = None,
) -> Curve:
    """The adaptation curve of `agent` on every task of a split.

    All tasks adapt side by side, each from its own data. Before each scored round count k, N scored episodes are
    played from a copy of the agent's state; they start where the protocol says, the same for every agent, seed and k,
    and `adapt` never sees them.

    Args:
        agent: is not changed.
        scenario: its protocol says how many episodes are played, and at which k agents are scored.
        split: "train", "test" or "ood".
        seed: of the agent's noise; the training seed.
        device: where environment and agent compute.
        privileged: append the task's parameters to the observation (the oracle alone).
        k: (K,) ascending multiples of the episodes in a round; score at these instead.
    """
    protocol = scenario.protocol
    scored_at = tuple(protocol.k if k is None else k)
    rounds = [episodes // protocol.episodes_per_round for episodes in scored_at]
    tasks, spec = scenario.tasks(split), agent_spec(scenario, privileged)
    scored_env = make_env(scenario, tasks, protocol.scored_episodes, device, privileged)
    adapt_env = make_env(scenario, tasks, protocol.episodes_per_round, device, privileged)
    metered = meter(scored_env)
    state = agent.initial_state(len(tasks))
    env_steps = np.zeros(len(tasks))  # (B,)
    broken = np.zeros(len(tasks), dtype=np.int64)
    returns, steps, failed, measured = [], [], [], []
    for done in range(rounds[-1] + 1):

        def seeds(purpose: str, done: int = done) -> dict[str, int]:
            start = seed_of(purpose, scenario.id, split, 0 if purpose == "scored" else done)
            return {"seed": start, "noise_seed": seed_of(purpose, "noise", scenario.id, split, done, seed)}

        if done in rounds:
            rollout, _ = collect(scored_env, spec, agent.act, _copy(state), explore=False, **seeds("scored"))
            returns.append(rollout.returns().double().cpu().numpy())
            metrics = metered.metrics() if metered else {}
            measured.append({name: value.double().cpu().numpy() for name, value in metrics.items()})
            steps.append(env_steps.copy())
            failed.append(broken + rollout.failed.sum(1).cpu().numpy())
        if done < rounds[-1]:
            rollout, state = collect(adapt_env, spec, agent.act, state, explore=True, **seeds("adapt"))
            env_steps += (rollout.mask.sum((1, 2)) + rollout.failed.sum(1)).cpu().numpy()
            broken = broken + rollout.failed.sum(1).cpu().numpy()
            state = agent.adapt(
                state, rollout, _generator(device, seed_of("update", scenario.id, split, done, seed))
            )
    scored_env.close()
    adapt_env.close()
    return Curve(
        k=scored_at,
        returns=np.stack(returns, 1),  # (B, K, N)
        env_steps=np.stack(steps, 1),  # (B, K)
        failed=np.stack(failed, 1),  # (B, K)
        metrics={name: np.stack([values[name] for values in measured], 1) for name in measured[0]},
        reported=dict(metered.reported) if metered else {},
    )


def _copy(state: State) -> State:
    """The same tree with tensors of its own: an agent that writes into it learns nothing from scored episodes."""
    import torch
    from torch.utils._pytree import tree_map

    return tree_map(lambda leaf: leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf, state)


def _generator(device: torch.device, seed: int) -> torch.Generator:
    import torch

    return torch.Generator(device).manual_seed(seed)
