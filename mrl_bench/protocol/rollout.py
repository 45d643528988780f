"""Rollouts: plays episodes in a batched environment and marks failed episodes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from mrl_bench.agent import Act, MetaAgent
from mrl_bench.family import BatchEnv
from mrl_bench.protocol.promises import CheckedAct, keep_ended, require_memory
from mrl_bench.types import EnvSpec, Memory, Rollout, State, TimeStep


def collect(
    env: BatchEnv,
    spec: EnvSpec,
    agent: MetaAgent,
    state: State,
    *,
    seed: int,
    noise_seed: int,
    explore: bool,
    strict: bool = False,
) -> tuple[Rollout, Memory]:
    """One episode of an agent in every environment instance, from the memory with which it starts an episode.

    Args: see `play`.

    Raises:
        ContractError: the agent broke a promise of `mrl_bench.agent`.
    """
    obs = env.reset(seed)
    memory = agent.start_episode(state, obs.shape[1])
    return play(
        env, obs, spec, agent.act, state, memory, noise_seed=noise_seed, explore=explore, strict=strict
    )


@torch.no_grad()
def play(
    env: BatchEnv,
    obs: Tensor,
    spec: EnvSpec,
    act: Act,
    state: State,
    memory: Memory,
    *,
    noise_seed: int,
    explore: bool,
    strict: bool = False,
    spend: Callable[[Tensor], None] = lambda alive: None,
) -> tuple[Rollout, Memory]:
    """One episode in every environment instance. What the agent is given is a copy: it may write into it.

    Args:
        env: B x E environment instances, after `reset`.
        obs: the observations that `reset` returned, (B, E, O).
        spec: of that environment; its horizon cuts the episodes.
        act: chooses the actions.
        state: is passed to `act`.
        memory: is passed to the first `act`; then each instance's own, until its episode ends.
        noise_seed: of the generator that `act` draws from, on the environment's device.
        explore: is passed to `act`.
        strict: whether an action that is not finite raises ContractError.
        spend: is called before each control step with the instances (B, E) bool that take part in it. It may raise.

    Returns:
        The rollout, and the memory of each instance after its last `act`. An episode fails, and ends, in the step in
        which its action, observation or reward is not finite, or in which the environment reports a failure.

    Raises:
        ContractError: `act` broke a promise of `mrl_bench.agent`.
    """
    device, shape = obs.device, (obs.shape[0], obs.shape[1], spec.act_dim)
    require_memory(memory, *shape[:2])
    rng = torch.Generator(device).manual_seed(noise_seed)
    checked, remembers = CheckedAct(act, shape, strict), bool(tree_leaves(memory))
    alive = torch.ones(shape[:2], dtype=torch.bool, device=device)
    failed = torch.zeros_like(alive)
    action, reward = obs.new_zeros(shape), obs.new_zeros(shape[:2])
    kept: list[list[Tensor]] = [[] for _ in range(5)]  # for each (B, E, T, ...) of the rollout, a list over t
    first = obs
    for t in range(spec.horizon):
        spend(alive)
        given = TimeStep(obs.clone(), action.clone(), reward.clone(), alive.to(obs.dtype), t)
        before = tree_map(torch.clone, memory) if remembers else memory
        action, after = checked(state, before, given, explore, rng)
        if remembers or after is not memory:
            memory = keep_ended(alive, memory, after)
        sane = action.isfinite().all(-1)
        action = torch.where(sane[..., None], action, 0.0)
        step = env.step(action)
        broken = ~sane | step.failed | ~step.reward.isfinite() | ~step.obs.isfinite().all(-1)
        failed = failed | (broken & alive)
        mask = alive & ~broken  # a failed step gives neither reward nor observation
        obs = torch.where(mask[..., None], step.obs, obs)
        reward = torch.where(mask, step.reward, 0.0)
        terminated = step.terminated & mask
        for series, value in zip(kept, (obs, action, reward, terminated, mask.to(obs.dtype)), strict=True):
            series.append(value)
        alive = mask & ~terminated
        # On a GPU this check would wait for the device.
        if device.type == "cpu" and not alive.any():
            break
    later, actions, rewards, ends, masks = (torch.stack(series, 2) for series in kept)
    obs = torch.cat([first[:, :, None], later], 2)
    return Rollout(obs, actions, rewards, ends, masks, failed), memory
