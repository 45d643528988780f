"""Observations that hold the last actions of the episode too.

Where an actuator lags or delays and its state is not observed, the next observation depends on earlier actions. With
enough of them beside the observation, the process is Markov again (Katsikopoulos & Engelbrecht 2003, "Markov decision
processes with delays and asynchronous cost collection").
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mrl_bench.types import EnvSpec, Memory, Rollout, TimeStep


def with_history_spec(spec: EnvSpec, steps: int) -> EnvSpec:
    """The spec of observations with `steps` actions: (O) -> (O + steps * A), the latest action first."""
    return widened(spec, steps * spec.act_dim)


def widened(spec: EnvSpec, entries: int) -> EnvSpec:
    """The spec of observations with so many more entries of magnitude 1: (O) -> (O + entries)."""
    return replace(spec, obs_dim=spec.obs_dim + entries, obs_scale=(*spec.obs_scale, *[1.0] * entries))


def no_history(spec: EnvSpec, tasks: int, episodes: int, steps: int, device: torch.device) -> Memory:
    """The history before the first action: zeros (B, E, steps * A), or () without steps."""
    return torch.zeros(tasks, episodes, steps * spec.act_dim, device=device) if steps else ()


def observe(step: TimeStep, history: Memory) -> tuple[Tensor, Memory]:
    """The observation with its history (B, E, O + steps * A), and the history that the next step needs."""
    if not isinstance(history, Tensor):
        return step.obs, history
    history = torch.cat([step.action.clamp(-1.0, 1.0), history], -1)[..., : history.shape[-1]]
    return torch.cat([step.obs, history], -1), history


def with_history(rollout: Rollout, steps: int) -> Rollout:
    """The rollout with observations (B, E, T + 1, O + steps * A)."""
    if steps == 0:
        return rollout
    length = rollout.obs.shape[2]
    action = rollout.action.clamp(-1.0, 1.0)
    padded = torch.cat([action.new_zeros(*action.shape[:2], steps, action.shape[-1]), action], 2)
    before = [padded[:, :, steps - ago : steps - ago + length] for ago in range(1, steps + 1)]
    return replace(rollout, obs=torch.cat([rollout.obs, *before], -1))
