"""The privileged observation: the task's parameters, appended to the observation for the oracle.

`privileged` is an argument of the harness's functions. `Run.privileged` is true for the reference agent "oracle"
only. No scenario, suite or setting can change that: an agent receives an `EnvSpec` and observations, never a task.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from mrl_bench.family import BatchEnv, HasMetrics
from mrl_bench.types import EnvSpec, Step, TaskBatch

if TYPE_CHECKING:
    from torch import Tensor

    from mrl_bench.scenario import Scenario


def agent_spec(scenario: Scenario, privileged: bool) -> EnvSpec:
    """The EnvSpec of an agent. With `privileged`, the observation is longer by the parameters that vary."""
    spec = scenario.family.spec
    if not privileged:
        return spec
    features = scenario.features(scenario.tasks("test")).shape[1]
    return replace(spec, obs_dim=spec.obs_dim + features, obs_scale=spec.obs_scale + (1.0,) * features)


def make_env(
    scenario: Scenario, tasks: TaskBatch, episodes: int, device: torch.device, privileged: bool
) -> BatchEnv:
    """B x E environment instances; with `privileged`, the task's parameters are part of the observation."""
    env = scenario.family.make(tasks, episodes, device)
    if not privileged:
        return env
    features = torch.as_tensor(scenario.features(tasks), dtype=torch.float32, device=device)  # (B, F)
    return _PrivilegedEnv(env, features[:, None].expand(-1, episodes, -1))


def meter(env: BatchEnv) -> HasMetrics | None:
    """The environment of `make_env` without a wrapper, if it measures metrics; else None."""
    inner = env._env if isinstance(env, _PrivilegedEnv) else env
    return inner if isinstance(inner, HasMetrics) else None


class _PrivilegedEnv:
    """An environment whose observation ends with the task's parameters, each scaled to about [-1, 1]."""

    def __init__(self, env: BatchEnv, features: Tensor) -> None:
        self._env, self._features = env, features  # (B, E, F)

    def reset(self, seed: int) -> Tensor:
        return torch.cat([self._env.reset(seed), self._features], -1)

    def step(self, action: Tensor) -> Step:
        step = self._env.step(action)
        return step._replace(obs=torch.cat([step.obs, self._features], -1))

    def close(self) -> None:
        self._env.close()
