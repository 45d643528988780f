"""Rollouts: plays episodes in a batched environment, counts env steps and marks failed episodes."""

from __future__ import annotations

import torch

from mrl_bench.agent import Act
from mrl_bench.family import BatchEnv
from mrl_bench.types import EnvSpec, Rollout, State, TimeStep


@torch.no_grad()
def collect(
    env: BatchEnv, spec: EnvSpec, act: Act, state: State, *, seed: int, noise_seed: int, explore: bool
) -> tuple[Rollout, State]:
    """One episode in every environment instance.

    Args:
        env: B x E environment instances.
        spec: of that environment; its horizon cuts the episodes.
        act: chooses the actions.
        state: the agent's state, a tree of tensors (B, ...); `act` returns the one for its next call.
        seed: of the initial states.
        noise_seed: of the generator that `act` draws from, on the environment's device.
        explore: passed to `act`.

    Returns:
        The rollout and the agent's state at its end. An episode fails, and ends, in the step in which its action,
        observation or reward is not finite, or in which the environment reports a failure.

    Raises:
        ValueError: `act` returned actions of a wrong shape.
    """
    obs = env.reset(seed)
    device = obs.device
    rng = torch.Generator(device).manual_seed(noise_seed)
    alive = torch.ones(obs.shape[:2], dtype=torch.bool, device=device)
    failed = torch.zeros_like(alive)
    action, reward = obs.new_zeros(*obs.shape[:2], spec.act_dim), obs.new_zeros(obs.shape[:2])
    kept: list[list[torch.Tensor]] = [
        [] for _ in range(5)
    ]  # for each (B, E, T, ...) of the rollout, a list over t
    first = obs
    for t in range(spec.horizon):
        # Copies, so that an agent that writes into its input changes neither the rollout nor a reward.
        last = TimeStep(obs.clone(), action.clone(), reward.clone(), alive.to(obs.dtype), t)
        action, state = act(state, last, explore, rng)
        if action.shape != (*obs.shape[:2], spec.act_dim):
            raise ValueError(
                f"act returned actions of shape {tuple(action.shape)}, not {(*obs.shape[:2], spec.act_dim)}"
            )
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
    return Rollout(obs, actions, rewards, ends, masks, failed), state
